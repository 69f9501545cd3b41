# SPDX-License-Identifier: Apache-2.0
"""A-C and H: sequences, masks, hidden states, logits, kept prefix."""

from __future__ import annotations

import hashlib

import pytest
import torch

from wam.models.ud_vla import masks
from wam.models.ud_vla.config import MaskMode
from wam.models.ud_vla.decoder import PrefixBuffer, RestrictedHead
from wam.models.ud_vla.jd3p import Cached, Uncached, prefix_mask
from wam.models.ud_vla.text import byte_ids
from wam.models.ud_vla.tokens import RELEASED

GRIDS = ("one_cam", "real_one_cam", "real_two_cam", "two_cam")

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_sequence_equals_the_released_one(golden, name):
    layout = golden.layout(name)
    views = ["static", "wrist"][: len(layout.grids)]
    prefix = layout.prefix(byte_ids("push the red block"), [golden.io[f"A.{name}.{v}"] for v in views])
    assert torch.equal(torch.cat((prefix, layout.start)).int(), golden.io[f"A.{name}.input_ids"])
    assert layout.generated_len == golden.info["A"][name]["gen_len"]


@pytest.mark.parametrize("name", ["two_cam", "one_cam"])
def test_masks_equal_the_released_ones_and_the_papers(golden, name):
    io, layout = golden.io, golden.layout(name)
    ids, levels = io[f"A.{name}.input_ids"].long()[None], layout.all_levels(19)
    assert torch.equal(masks.hybrid(levels[None])[0], io[f"B.{name}.paper_hybrid"].bool())
    assert torch.equal(masks.released(ids, RELEASED)[0], io[f"B.{name}.released"].bool())
    assert torch.equal(masks.causal(ids, RELEASED)[0], io[f"B.{name}.causal"].bool())
    padded = torch.cat((levels, torch.full((6,), -1)))
    assert torch.equal(masks.hybrid(padded[None])[0], io[f"B.{name}.paper_hybrid_pad"].bool())
    for end in ("released_eoa", "released_eoa_pad"):
        found = masks.released(io[f"B.{name}.{end}_ids"].long()[None], RELEASED)[0]
        assert torch.equal(found, io[f"B.{name}.{end}"].bool())


@pytest.mark.parametrize("name", ["real_two_cam", "real_one_cam"])
def test_masks_of_real_length_have_the_same_row_sums(golden, name):
    ids, levels = golden.io[f"A.{name}.input_ids"].long()[None], golden.layout(name).all_levels(19)
    assert torch.equal(masks.hybrid(levels[None])[0].sum(-1).int(), golden.io[f"B.{name}.paper_rowsum"])
    assert torch.equal(masks.released(ids, RELEASED)[0].sum(-1).int(), golden.io[f"B.{name}.released_rowsum"])


def test_hashed_embeddings_are_the_packs(golden, decoder):
    digest = hashlib.sha256(decoder.lm.lm_head.weight.detach().numpy().tobytes()).hexdigest()
    assert digest == golden.info["weights"]["sha_head"]


@pytest.mark.parametrize("name", ["two_cam", "one_cam"])
@pytest.mark.parametrize("mode", ["paper_hybrid", "released", "causal"])
@torch.inference_mode()
def test_logits_equal_the_authors(golden, decoder, name, mode):
    layout, io = golden.layout(name), golden.io
    ids = io[f"C.{name}.input_ids"].long()[None]
    allowed = {
        "paper_hybrid": masks.hybrid(layout.all_levels(19)[None]),
        "released": masks.released(ids, RELEASED),
        "causal": masks.causal(ids, RELEASED),
    }[mode]
    hidden = decoder.hidden(ids, masks.additive(allowed))[0]
    assert torch.allclose(hidden, io[f"C.{name}.{mode}.last_hidden"], atol=2e-5)
    rows = hidden[-layout.generated_len - 1 : -1]
    for part, key, vocabulary in (
        (rows[: layout.image_len], "logits_img", "ids.small_img"),
        (rows[layout.image_len :], "logits_act", "ids.small_act"),
    ):
        logits = RestrictedHead(decoder, io[vocabulary].long())(part)
        assert torch.allclose(logits, io[f"C.{name}.{mode}.{key}"], atol=1e-4)
    full = rows @ decoder.lm.lm_head.weight.T
    assert torch.equal(full.argmax(-1).int(), io[f"C.{name}.{mode}.argmax_full"])
    assert torch.allclose(full.logsumexp(-1), io[f"C.{name}.{mode}.lse_full"], atol=1e-4)


@pytest.mark.parametrize("name", ["two_cam", "one_cam"])
@torch.inference_mode()
def test_kept_prefix_is_exact_under_the_hybrid_mask(golden, decoder, name):
    layout, prefix = golden.layout(name), golden.prefix(name)
    kv, _ = decoder.prefill(prefix[None], prefix_mask(layout, prefix, torch.float32))
    kept = Cached(decoder, kv, layout=layout, mode=MaskMode.HYBRID)
    whole = Uncached(decoder, prefix, layout=layout, mode=MaskMode.HYBRID)
    half = layout.start.clone()
    half[5:15] = RELEASED.visual_start + torch.arange(10)
    for state in (layout.start, half):
        assert torch.allclose(kept(state)[1:], whole(state)[1:], atol=1e-5)


@torch.inference_mode()
def test_kept_prefix_is_wrong_under_the_released_mask_by_as_much_as_measured(golden, decoder):
    """The reason why it is refused: the hidden states differ by more than one."""
    layout, ids = golden.layout("two_cam"), golden.io["A.two_cam.input_ids"].long()
    size = len(ids) - layout.generated_len
    full = decoder.hidden(ids[None], masks.additive(masks.released(ids[None], RELEASED)))[0, size:]
    assert torch.allclose(full, golden.io["H.two_cam.released.initial.hidden_full"][size:], atol=2e-5)
    alone = masks.additive(masks.released(ids[None, :size], RELEASED))
    kv, _ = decoder.prefill(ids[None, :size], alone)
    buffer = PrefixBuffer(kv, room=layout.generated_len)
    kept = decoder.hidden_after(ids[None, size:], buffer, None)[0]
    assert float((kept - full).abs().max()) == pytest.approx(
        golden.info["H"]["two_cam.released.initial.float32"]["max_abs_hidden"], rel=1e-3
    )
