# SPDX-License-Identifier: Apache-2.0
"""D: masking with the stored draws, losses and gradients."""

from __future__ import annotations

import pytest
import torch

from wam.models.ud_vla.config import MaskMode
from wam.models.ud_vla.tokens import IGNORED, RELEASED
from wam.training.ud_vla_objective import (
    CleanChunk,
    Sequences,
    apply_mask,
    choose,
    collate,
    loss_of,
    mask_of,
    masked_share,
)

pytestmark = pytest.mark.parity

CASES = {"fixbe": "two_cam", "fixbe_one_cam": "one_cam", "nofixbe": "two_cam"}
MODES = {"released": MaskMode.RELEASED, "paper_hybrid": MaskMode.HYBRID}


def golden_batch(golden, case):
    levels = torch.stack([golden.io[f"D.{case}.levels{i}"] for i in range(2)]).long()
    return Sequences(golden.io[f"D.{case}.input_ids"].long(), golden.io[f"D.{case}.labels"].long(), levels)


@pytest.mark.parametrize("case", sorted(CASES))
def test_masking_with_the_stored_draws_is_the_authors(golden, case):
    batch, io = golden_batch(golden, case), golden.io
    layout = golden.layout(CASES[case])
    protect = golden.info["D"][case]["fixbe"]
    samples = []
    for item in range(2):
        calls = [f"D.{case}.call{2 * item + k}" for k in range(2)]
        future, action = (io[f"{call}.clean"].long() for call in calls)
        chosen = [
            choose(
                io[f"{call}.clean"].long(),
                share=masked_share(float(io[f"{call}.u"])),
                noise_n=io[f"{call}.rand"],
                tokens=RELEASED,
                protect=protect,
            )
            for call in calls
        ]
        prefix_len = int((batch.levels[item] <= 1).sum() - (batch.levels[item] == -1).sum())
        room = int((batch.levels[item] == 3).sum()) - len(action)
        padded = torch.cat((action, torch.full((room,), RELEASED.mask)))
        chunk = CleanChunk(batch.ids[item, :prefix_len], future, padded)
        masked = torch.cat((*chosen, torch.zeros(room, dtype=torch.bool)))
        samples.append(apply_mask(chunk, masked, RELEASED))
    sized = type(layout)(RELEASED, layout.grids, int((batch.levels[0] == 3).sum()))
    ours = collate(samples, layout=sized, pad_to=batch.ids.shape[1])
    assert torch.equal(ours.ids, batch.ids)
    assert torch.equal(ours.labels, batch.labels)
    assert torch.equal(ours.levels, batch.levels)
    assert [int((row != IGNORED).sum()) for row in ours.labels] == golden.info["D"][case][
        "n_labelled_per_item"
    ]


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("mode", sorted(MODES))
def test_batch_masks_are_the_authors(golden, case, mode):
    batch = golden_batch(golden, case)
    key = "paper_mask" if mode == "paper_hybrid" else "released_mask"
    allowed = mask_of(batch, mode=MODES[mode], tokens=RELEASED, dtype=torch.float32)[:, 0] == 0
    assert torch.equal(allowed, golden.io[f"D.{case}.{key}"].bool())


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("weight", [0.5, 0.2, 1.0])
def test_losses_are_the_authors(golden, decoder, case, mode, weight):
    with torch.no_grad():
        loss = loss_of(decoder, golden_batch(golden, case), mode=MODES[mode], visual_weight=weight)
    wanted = golden.info["D"][case]["losses"][f"{mode}.w{weight}"]
    assert float(loss.total) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_gradients_are_the_authors(golden, decoder, mode, weight):
    decoder.zero_grad(set_to_none=True)
    loss_of(decoder, golden_batch(golden, "fixbe"), mode=MODES[mode], visual_weight=weight).total.backward()
    prefix, compared = f"D.fixbe.{mode}.w{weight}.grad.", 0
    rows = golden.io["D.fixbe.grad_rows"].long()
    for name, parameter in decoder.lm.named_parameters():
        wanted = golden.io.get(prefix + name)
        got = parameter.grad
        if name in ("lm_head.weight", "model.embed_tokens.weight"):
            label = "lm_head_rows" if name.startswith("lm_head") else "embed_rows"
            wanted, got = golden.io[prefix + label], got[rows]
        if wanted is not None:
            assert torch.allclose(got, wanted, atol=1e-5, rtol=1e-3), name
            compared += 1
    norm = torch.sqrt(sum((p.grad**2).sum() for p in decoder.parameters()))
    decoder.zero_grad(set_to_none=True)
    assert compared == 14
    assert float(norm) == pytest.approx(golden.info["D"]["fixbe"]["grad_norm"][f"{mode}.w{weight}"], rel=1e-4)
