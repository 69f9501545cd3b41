# SPDX-License-Identifier: Apache-2.0
"""All trainable weights of AHA-WAM in one module, and their count per part.

Parts (names are the prefixes of `model.safetensors`):

    video              planner's transformer
    action             executor's transformer
    branch_embedding   [2, D_action]; row 1 is added to the action tokens, row 0 is unused (kept for the keys)
    editor             per-layer K/V edit of OVCR
    query_encoder      observation queries of OVCR
    visual_projection  latent cells -> visual tokens of OVCR
    proprio            joint state -> one more text row
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wam.policies.aha_wam.action_dit import ActionDit
from wam.policies.aha_wam.config import AhaWamConfig
from wam.policies.aha_wam.ovcr import ContextEditor, ObservationQueryEncoder, VisualProjection
from wam.policies.aha_wam.video_dit import VideoDit

PLANNER_PARTS = ("video",)
EXECUTOR_PARTS = ("action", "branch_embedding", "editor", "query_encoder", "visual_projection", "proprio")


class AhaWam(nn.Module):
    """The networks of planner and executor; methods that run them are in `stages` and in `wam.training`.

    Args:
        config: sizes.
        planner: build the planner's half.
        executor: build the executor's half.
    """

    def __init__(self, config: AhaWamConfig, *, planner: bool = True, executor: bool = True) -> None:
        super().__init__()
        self.config = config
        c = config.action
        self.video = VideoDit(config) if planner else None
        self.action = ActionDit(config) if executor else None
        self.branch_embedding = nn.Parameter(torch.randn(2, c.width) * 0.02) if executor else None
        routed = executor and config.queries > 0
        self.editor = (
            ContextEditor(layers=c.layers, query_width=config.text_dim, inner=c.inner, heads=c.heads)
            if routed
            else None
        )
        self.query_encoder = (
            ObservationQueryEncoder(queries=config.queries, width=config.text_dim) if routed else None
        )
        self.visual_projection = VisualProjection(config) if routed else None
        needs_state = executor or config.proprio_in_planner
        self.proprio = nn.Linear(config.state_dim, config.text_dim) if needs_state else None

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters per part and, under "total", of all."""
        counts: dict[str, int] = {}
        for name, parameter in self.named_parameters():
            part = name.split(".", 1)[0]
            counts[part] = counts.get(part, 0) + parameter.numel()
        counts["total"] = sum(counts.values())
        return counts

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def branch(self) -> Tensor:
        """Return the embedding that is added to every action token, [D]."""
        if self.branch_embedding is None:
            raise ValueError("this model was built without its executor half")
        return self.branch_embedding[1]


def parameter_counts(config: AhaWamConfig) -> dict[str, int]:
    """Count parameters per part without allocating them (meta device)."""
    with torch.device("meta"):
        return AhaWam(config).parameter_counts()
