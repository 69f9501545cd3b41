# SPDX-License-Identifier: Apache-2.0
"""A-C and H: sequences, masks, hidden states, logits, kept prefix."""

from __future__ import annotations

import hashlib

import pytest
import torch

from wam.policies.ud_vla import masks
from wam.policies.ud_vla.config import MaskMode
from wam.policies.ud_vla.decoder import PrefixBuffer, RestrictedHead
from wam.policies.ud_vla.jd3p import Cached, Uncached, prefix_mask
from wam.policies.ud_vla.text import byte_ids
from wam.policies.ud_vla.tokens import RELEASED

pytestmark = pytest.mark.parity


def test_sequence_equals_the_released_one(golden, any_view):
    name, layout = any_view, golden.layout(any_view)
    prefix = layout.prefix(byte_ids(golden.info["A_text"]["text"]), golden.codes(name))
    assert torch.equal(torch.cat((prefix, layout.start)).int(), golden.io[f"A.{name}.input_ids"])
    assert layout.generated_len == golden.info["A"][name]["gen_len"]


def test_masks_equal_the_released_ones_and_the_papers(golden, tiny_view):
    io, name, layout = golden.io, tiny_view, golden.layout(tiny_view)
    ids, levels = io[f"A.{name}.input_ids"].long()[None], layout.all_levels(golden.text_len(name))
    assert torch.equal(masks.hybrid(levels[None])[0], io[f"B.{name}.paper_hybrid"].bool())
    assert torch.equal(masks.released(ids, RELEASED)[0], io[f"B.{name}.released"].bool())
    assert torch.equal(masks.causal(ids, RELEASED)[0], io[f"B.{name}.causal"].bool())
    wanted = io[f"B.{name}.paper_hybrid_pad"].bool()
    padded = torch.cat((levels, torch.full((len(wanted) - len(levels),), -1)))
    assert torch.equal(masks.hybrid(padded[None])[0], wanted)
    for end in ("released_eoa", "released_eoa_pad"):
        found = masks.released(io[f"B.{name}.{end}_ids"].long()[None], RELEASED)[0]
        assert torch.equal(found, io[f"B.{name}.{end}"].bool())


def test_masks_of_real_length_have_the_same_row_sums(golden, real_view):
    name, layout = real_view, golden.layout(real_view)
    ids, levels = golden.io[f"A.{name}.input_ids"].long()[None], layout.all_levels(golden.text_len(name))
    assert torch.equal(masks.hybrid(levels[None])[0].sum(-1).int(), golden.io[f"B.{name}.paper_rowsum"])
    assert torch.equal(masks.released(ids, RELEASED)[0].sum(-1).int(), golden.io[f"B.{name}.released_rowsum"])


def test_hashed_embeddings_are_the_packs(golden, decoder):
    digest = hashlib.sha256(decoder.lm.lm_head.weight.detach().numpy().tobytes()).hexdigest()
    assert digest == golden.info["weights"]["sha_head"]


@pytest.mark.parametrize("mode", ["paper_hybrid", "released", "causal"])
@torch.inference_mode()
def test_logits_equal_the_authors(golden, decoder, tiny_view, mode):
    name, layout, io = tiny_view, golden.layout(tiny_view), golden.io
    ids = io[f"C.{name}.input_ids"].long()[None]
    allowed = {
        "paper_hybrid": masks.hybrid(layout.all_levels(golden.text_len(name))[None]),
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


@torch.inference_mode()
def test_kept_prefix_is_exact_under_the_hybrid_mask(golden, decoder, tiny_view):
    layout, prefix = golden.layout(tiny_view), golden.prefix(tiny_view)
    kv, _ = decoder.prefill(prefix[None], prefix_mask(layout, prefix, torch.float32))
    kept = Cached(decoder, kv, layout=layout, mode=MaskMode.HYBRID)
    whole = Uncached(decoder, prefix, layout=layout, mode=MaskMode.HYBRID)
    half = layout.start.clone()
    image = (half[: layout.image_len] == RELEASED.mask).nonzero()[::2, 0]
    half[image] = RELEASED.visual_start + torch.arange(len(image))
    for state in (layout.start, half):
        assert torch.allclose(kept(state)[1:], whole(state)[1:], atol=1e-5)


@torch.inference_mode()
def test_kept_prefix_is_wrong_under_the_released_mask_by_as_much_as_measured(golden, decoder, uncacheable):
    """The reason why it is refused: the hidden states differ by more than one."""
    key = f"{uncacheable}.released.initial"
    layout, ids = golden.layout(uncacheable), golden.io[f"A.{uncacheable}.input_ids"].long()
    size = len(ids) - layout.generated_len
    full = decoder.hidden(ids[None], masks.additive(masks.released(ids[None], RELEASED)))[0, size:]
    assert torch.allclose(full, golden.io[f"H.{key}.hidden_full"][size:], atol=2e-5)
    alone = masks.additive(masks.released(ids[None, :size], RELEASED))
    kv, _ = decoder.prefill(ids[None, :size], alone)
    buffer = PrefixBuffer(kv, room=layout.generated_len)
    kept = decoder.hidden_after(ids[None, size:], buffer, None)[0]
    assert torch.allclose(kept, golden.io[f"H.{key}.hidden_cached"][size:], atol=2e-5)
    measured = golden.info["H"][f"{key}.float32"]["max_abs_hidden"]
    assert float((kept - full).abs().max()) == pytest.approx(measured, rel=1e-3)
