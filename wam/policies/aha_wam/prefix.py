# SPDX-License-Identifier: Apache-2.0
"""Prefix conditioning: a chunk whose first rows are given, and which is denoised from there on.

Real-time chunking with training (Black, Ren, Equi, Levine, "Training-Time Action Conditioning for Efficient Real-Time
Chunking", arXiv 2512.05964): rows given are clean, so their network time is 0 while the others have that of the step.

Shapes: B batch, R rows of a chunk, G rows given, A action values.
"""

from __future__ import annotations

import enum

import torch
from torch import Tensor

from wam.models.layers.flow import integrate
from wam.models.layers.rope import Rope
from wam.policies.aha_wam import stages
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.video_dit import LayerKv

EAGER_REASON = "rows given have a time of their own, and a prepared stage takes one time for the whole chunk"


class PrefixUse(enum.Enum):
    """What becomes of the rows that are executed before a new chunk can take over."""

    NONE = "none"
    """The chunk is denoised without them."""
    CONDITION = "condition"
    """They are given to the network, for a bundle that was trained so."""


def given_rows(prefix: Tensor, *, rows: int) -> Tensor:
    """Return which rows of a chunk are given, bool [..., rows].

    Args:
        prefix: number of rows given, integers [...].
        rows: of a chunk.
    """
    return torch.arange(rows, device=prefix.device) < prefix[..., None]


def denoise_after(
    model: AhaWam,
    given_BGA: Tensor,
    noise_BRA: Tensor,
    *,
    plan: stages.DenoisingSchedule,
    context: LayerKv,
    text: LayerKv,
    rope: Rope,
) -> Tensor:
    """Integrate a chunk from noise to actions behind rows that are given; as the networks are written.

    Args:
        model: its executor half, trained with `prefix_rows` of at least G.
        given_BGA: first rows of the chunk, normalised units, G < R.
        noise_BRA: standard normal rows; the first G are not read.
        plan: from `stages.schedule`.
        context: routed planner K/V.
        text: executor's text K/V with the state token.
        rope: rotation of the R rows.

    Returns:
        float32 [B, R, A], normalised units; the first G rows are those given.
    """
    if model.action is None:
        raise ValueError("this model was built without its executor half")
    given, rows = given_BGA.shape[1], noise_BRA.shape[1]
    clean = model.action.modulations(torch.zeros(1, device=noise_BRA.device)).expand(given, -1, -1, -1)

    def velocity(x_BRA: Tensor, i: int) -> Tensor:
        free = plan.modulations[i].expand(rows - given, -1, -1, -1)
        v = stages.denoise_step(
            model, x_BRA, modulations=torch.cat((clean, free))[None], context=context, text=text, rope=rope
        )
        return torch.cat((torch.zeros_like(v[:, :given]), v[:, given:]), dim=1)

    start = torch.cat((given_BGA.to(noise_BRA), noise_BRA[:, given:]), dim=1)
    return integrate(velocity, start, sigmas=plan.sigmas)
