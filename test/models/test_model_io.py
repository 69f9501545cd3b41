# SPDX-License-Identifier: Apache-2.0
"""What stands between messages and networks: statistics, images, text, bytes, finite checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wam.core.context import TensorSpec
from wam.core.errors import (
    BundleError,
    ContextError,
    HandleRefused,
    ImageError,
    InputError,
    MissingDependency,
    PolicyFault,
)
from wam.core.transport.layout import payload_bytes
from wam.models.context_codec import TorchCodec, read_tensors, specs_of, write_tensors
from wam.models.finite import require_finite, require_finite_layers
from wam.models.images import Composite, ImageTile, compose, resize_bytes, standard_layout, to_model_pixels
from wam.models.normalisation import FieldStats, Normaliser, NormMode
from wam.models.text import (
    CachedTextEncoder,
    HashTextEncoder,
    Umt5TextEncoder,
    build_umt5,
    clean_prompt,
    pad_rows,
    text_encoder,
    text_to_transformers,
    write_cache,
)

STATS = FieldStats(
    {
        "mean": np.array([1.0, -2.0]),
        "std": np.array([0.5, 4.0]),
        "min": np.array([0.0, -3.0]),
        "max": np.array([2.0, -3.0]),
        "q01": np.array([0.1, -3.0]),
        "q99": np.array([1.9, -3.0]),
    }
)


@pytest.mark.parametrize("mode", list(NormMode))
@given(x=st.lists(st.floats(-2, 2), min_size=2, max_size=2))
@settings(max_examples=30)
def test_normalising_and_back_is_the_identity_within_the_clamp(mode: NormMode, x: list[float]) -> None:
    normaliser = Normaliser(STATS, mode=mode)
    model = np.array(x, dtype=np.float32)
    assert normaliser.to_model(normaliser.to_si(model)) == pytest.approx(model, abs=1e-5)


def test_the_clamp_holds_on_the_way_in_alone() -> None:
    normaliser = Normaliser(STATS)
    assert normaliser.to_model([1e6, -1e6]).tolist() == [5.0, -5.0]
    assert normaliser.to_si([10.0, 0.0]) == pytest.approx([6.0, -2.0])


def test_a_joint_that_never_moved_is_centred_where_a_range_is_used() -> None:
    normaliser = Normaliser(STATS, mode=NormMode.MIN_MAX)
    assert normaliser.to_model([0.0, -3.0]).tolist() == pytest.approx([-1.0, 0.0])


def test_a_mode_without_its_statistics_is_refused() -> None:
    bare = FieldStats({"mean": np.zeros(2), "std": np.ones(2)})
    with pytest.raises(BundleError, match="needs q01 and q99"):
        Normaliser(bare, mode=NormMode.QUANTILE)


def test_the_standard_layouts_are_those_of_the_released_checkpoints() -> None:
    three = standard_layout(("head", "left", "right"), height=384, width=320)
    assert [(t.top, t.left, t.height, t.width) for t in three.tiles] == [
        (0, 0, 256, 320),
        (256, 0, 128, 160),
        (256, 160, 128, 160),
    ]
    two = standard_layout(("a", "b"), height=224, width=448)
    assert [(t.top, t.left, t.height, t.width) for t in two.tiles] == [(0, 0, 224, 224), (0, 224, 224, 224)]
    assert len(standard_layout(("a",), height=384, width=320).tiles) == 1
    with pytest.raises(ValueError, match="4 cameras"):
        standard_layout("abcd", height=384, width=320)


@pytest.mark.parametrize(
    "tiles",
    [
        (ImageTile("a", 0, 0, 4, 4), ImageTile("b", 0, 4, 4, 3)),
        (ImageTile("a", 0, 0, 4, 5), ImageTile("b", 0, 4, 4, 4)),
        (ImageTile("a", 0, 0, 4, 4), ImageTile("a", 0, 4, 4, 4)),
        (ImageTile("a", 0, 0, 5, 8),),
    ],
)
def test_tiles_that_overlap_miss_or_repeat_are_refused(tiles: tuple[ImageTile, ...]) -> None:
    with pytest.raises(ValueError, match=r"tile|covers?|two tiles"):
        Composite(4, 8, tiles)


def test_views_land_in_their_tiles_whatever_their_size() -> None:
    layout = standard_layout(("head", "left", "right"), height=96, width=64)
    views = {
        "head": np.full((480, 640, 3), 10, dtype=np.uint8),
        "left": np.full((100, 50, 3), 20, dtype=np.uint8),
        "right": np.full((32, 32, 3), 30, dtype=np.uint8),
    }
    image = compose(views, layout)
    assert (image[:64] == 10).all()
    assert (image[64:, :32] == 20).all()
    assert (image[64:, 32:] == 30).all()
    with pytest.raises(ImageError, match="right"):
        compose({k: v for k, v in views.items() if k != "right"}, layout)


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert resize_bytes(image, height=8, width=8) is image


def test_pixels_go_to_minus_one_to_one() -> None:
    image = np.array([[[0, 255, 51]]], dtype=np.uint8)
    assert to_model_pixels(image)[0, :, 0, 0].tolist() == pytest.approx([-1.0, 1.0, -0.6])


def test_a_hashed_embedding_depends_on_words_and_order_and_nothing_else() -> None:
    encoder = HashTextEncoder(text_len=5, width=8)
    rows = encoder.embed("Open the  drawer")
    assert torch.equal(rows, encoder.embed("open the drawer"))
    assert rows.shape == (5, 8)
    assert rows[3:].abs().max() == 0
    assert torch.equal(rows[1], encoder.embed("close the box")[1])
    with pytest.raises(InputError, match="6 tokens"):
        encoder.embed("a b c d e f")


def test_an_embedding_cache_goes_round_and_names_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "text_embeddings.safetensors"
    rows = torch.cat((torch.randn(3, 8), torch.zeros(2, 8))).bfloat16()
    write_cache(path, {"do: fold": rows}, encoder="umt5-xxl", text_len=5)
    encoder = CachedTextEncoder(path, text_len=5, width=8)
    assert torch.equal(encoder.embed("do: fold"), rows)
    with pytest.raises(InputError, match=r"open.*do: fold"):
        encoder.embed("do: open")
    with pytest.raises(BundleError, match=r"\(3, 8\)"):
        CachedTextEncoder(path, text_len=5, width=16)
    with pytest.raises(BundleError, match=r"\(3, 8\)"):
        CachedTextEncoder(path, text_len=2, width=8)
    by_name = text_encoder({"kind": "cache"}, directory=tmp_path, text_len=5, width=8)
    assert torch.equal(by_name.embed("do: fold"), rows)


def test_a_real_encoder_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no text encoder"):
        text_encoder({"kind": "umt5", "directory": "umt5"}, directory=tmp_path, text_len=5, width=8)


def tiny_umt5():
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=12, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu"
    )
    return UMT5EncoderModel(config).eval()


def save_tokenizer(directory: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", "fold", "the", "towel", "open"]
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(directory)


@pytest.mark.parametrize("layout", ["diffusers", "original"])
def test_the_text_encoder_loads_from_either_layout_and_pads_after_the_end(
    tmp_path: Path, layout: str
) -> None:
    theirs = tiny_umt5()
    save_tokenizer(tmp_path / "tokenizer")
    if layout == "diffusers":
        theirs.save_pretrained(tmp_path / "text_encoder")
    else:
        original = {}
        for name in ("token_embedding.weight", "norm.weight"):
            original[name] = theirs.state_dict()[text_to_transformers(name)]
        for i in range(2):
            parts = [f"attn.{n}" for n in "qkvo"] + ["ffn.gate.0", "ffn.fc1", "ffn.fc2", "norm1", "norm2"]
            for part in [*parts, "pos_embedding.embedding"]:
                name = f"blocks.{i}.{part}.weight"
                original[name] = theirs.state_dict()[text_to_transformers(name)]
        torch.save(original, tmp_path / "models_t5_umt5-xxl-enc-bf16.pth")
    encoder = Umt5TextEncoder.from_directory(tmp_path, text_len=6, dtype=torch.float32)
    rows = encoder.embed("fold  the towel")
    ids, mask = torch.tensor([[3, 4, 5, 1, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.inference_mode():
        want = theirs(input_ids=ids, attention_mask=mask).last_hidden_state[0]
    torch.testing.assert_close(rows[:4], want[:4], atol=1e-5, rtol=0)
    assert rows.shape == (6, 8)
    assert rows[4:].abs().max() == 0
    with pytest.raises(InputError, match="7 tokens"):
        encoder.embed("fold the towel open fold the")


def test_a_text_encoder_with_a_missing_tensor_is_refused() -> None:
    state = dict(tiny_umt5().state_dict())
    del state["encoder.block.1.layer.1.DenseReluDense.wo.weight"]
    with pytest.raises(BundleError, match=r"encoder\.block\.1\.layer\.1\.DenseReluDense\.wo\.weight"):
        build_umt5(state)


def test_a_prompt_is_cleaned_as_the_released_tokenizer_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clean_prompt("  fold &amp;amp; the\n towel ") == "fold & the towel"
    monkeypatch.setitem(__import__("sys").modules, "ftfy", None)
    with pytest.raises(MissingDependency, match="ftfy"):
        clean_prompt("fold the caf\u00e9 towel")


def test_rows_are_filled_up_with_zeros() -> None:
    padded = pad_rows(torch.ones(2, 3), text_len=4, prompt="x")
    assert padded.tolist() == [[1] * 3, [1] * 3, [0] * 3, [0] * 3]


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool],
)
def test_tensors_of_every_kind_go_through_bytes_unchanged(dtype: torch.dtype) -> None:
    tensors = {
        "a": (torch.rand(3, 5) > 0.5).to(dtype),
        "empty": torch.empty(0, 4, dtype=dtype),
        "b": torch.arange(7).to(dtype).flip(0)[::2],
    }
    specs = specs_of(tensors)
    buffer = bytearray(payload_bytes(specs))
    write_tensors(tensors, memoryview(buffer))
    back = read_tensors(specs, memoryview(buffer))
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


def test_reading_makes_views_not_copies() -> None:
    tensors = {"a": torch.zeros(4)}
    specs = specs_of(tensors)
    buffer = bytearray(payload_bytes(specs))
    write_tensors(tensors, memoryview(buffer))
    back = read_tensors(specs, memoryview(buffer))
    write_tensors({"a": torch.ones(4)}, memoryview(buffer))
    assert back["a"].tolist() == [1, 1, 1, 1]


def test_read_only_bytes_of_an_inline_message_can_be_read() -> None:
    tensors = {"a": torch.arange(4.0)}
    specs = specs_of(tensors)
    buffer = bytearray(payload_bytes(specs))
    write_tensors(tensors, memoryview(buffer))
    assert read_tensors(specs, memoryview(bytes(buffer)))["a"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (TensorSpec("a", "float32", (100,), 0), HandleRefused),
        (TensorSpec("a", "float32", (2,), 4), HandleRefused),
        (TensorSpec("a", "object", (2,), 0), HandleRefused),
        (TensorSpec("a", "int16", (2,), 0), ContextError),
    ],
)
def test_a_table_that_lies_is_refused(spec: TensorSpec, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_tensors((spec,), memoryview(bytearray(64)))


def test_a_payload_that_does_not_fit_or_lacks_a_tensor_is_refused() -> None:
    codec: TorchCodec[torch.Tensor] = TorchCodec(lambda t: {"a": t}, lambda tensors: tensors["a"])
    with pytest.raises(ContextError, match="does not fit"):
        codec.write(torch.zeros(100), memoryview(bytearray(64)))
    other = specs_of({"b": torch.zeros(4)})
    with pytest.raises(ContextError, match="lacks the tensor 'a'"):
        codec.read(other, memoryview(bytearray(64)))


def test_the_first_layer_that_is_not_finite_is_named() -> None:
    stacked = torch.zeros(4, 2, 3)
    require_finite_layers(stacked, what="key")
    stacked[2, 0, 0] = float("inf")
    with pytest.raises(PolicyFault, match="key of layer 2"):
        require_finite_layers(stacked, what="key")
    with pytest.raises(PolicyFault, match="latent is not finite"):
        require_finite(torch.tensor([float("nan")]), what="latent")
