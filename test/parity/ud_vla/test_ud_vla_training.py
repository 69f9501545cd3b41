# SPDX-License-Identifier: Apache-2.0
"""D: masking with the stored draws, losses and gradients."""

from __future__ import annotations

import pytest
import torch

from wam.policies.ud_vla.config import MaskMode
from wam.policies.ud_vla.tokens import IGNORED, RELEASED
from wam.policies.ud_vla.training.objective import (
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

MODES = {"released": MaskMode.RELEASED, "paper_hybrid": MaskMode.HYBRID}


def golden_batch(golden, case):
    ids, labels = (golden.io[f"D.{case}.{name}"].long() for name in ("input_ids", "labels"))
    levels = torch.stack([golden.io[f"D.{case}.levels{i}"] for i in range(len(ids))]).long()
    return Sequences(ids, labels, levels)


def view_of(golden, case):
    """Return the tiny sequence with the cameras of a case."""
    cameras = golden.info["D"][case]["cams"]
    return next(n for n in golden.info["B"] if len(golden.codes(n)) == cameras)


def test_masking_with_the_stored_draws_is_the_authors(golden, case):
    batch, io = golden_batch(golden, case), golden.io
    layout = golden.layout(view_of(golden, case))
    protect = golden.info["D"][case]["fixbe"]
    samples = []
    for item in range(len(batch.ids)):
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


@pytest.mark.parametrize("mode", sorted(MODES))
def test_batch_masks_are_the_authors(golden, case, mode):
    batch = golden_batch(golden, case)
    key = "paper_mask" if mode == "paper_hybrid" else "released_mask"
    allowed = mask_of(batch, mode=MODES[mode], tokens=RELEASED, dtype=torch.float32)[:, 0] == 0
    assert torch.equal(allowed, golden.io[f"D.{case}.{key}"].bool())


@pytest.mark.parametrize("mode", sorted(MODES))
def test_losses_are_the_authors(golden, decoder, case, mode, weight):
    wanted = golden.info["D"][case]["losses"].get(f"{mode}.w{weight}")
    if wanted is None:
        pytest.skip(f"no loss {mode}.w{weight} of {case}")
    with torch.no_grad():
        loss = loss_of(decoder, golden_batch(golden, case), mode=MODES[mode], visual_weight=weight)
    assert float(loss.total) == pytest.approx(wanted, rel=1e-5)


def test_gradients_are_the_authors(golden, decoder, gradients):
    case, run = gradients
    mode, _, weight = run.partition(".w")
    decoder.zero_grad(set_to_none=True)
    batch = golden_batch(golden, case)
    loss_of(decoder, batch, mode=MODES[mode], visual_weight=float(weight)).total.backward()
    prefix = f"D.{case}.{run}.grad."
    stored = {k.removeprefix(prefix): v for k, v in golden.io.items() if k.startswith(prefix)}
    assert stored
    rows = golden.io[f"D.{case}.grad_rows"].long()
    found = {name: parameter.grad for name, parameter in decoder.lm.named_parameters()}
    found["lm_head_rows"] = found["lm_head.weight"][rows]
    found["embed_rows"] = found["model.embed_tokens.weight"][rows]
    for name, wanted in stored.items():
        assert torch.allclose(found[name], wanted, atol=1e-5, rtol=1e-3), name
    norm = torch.sqrt(sum((p.grad**2).sum() for p in decoder.parameters()))
    decoder.zero_grad(set_to_none=True)
    assert float(norm) == pytest.approx(golden.info["D"][case]["grad_norm"][run], rel=1e-4)
