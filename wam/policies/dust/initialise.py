# SPDX-License-Identifier: Apache-2.0
"""Random weights: calm ones for tests and demos, and the zero gates for training from scratch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wam.policies.dust.config import DustConfig
from wam.policies.dust.encoders import ActionEncoder
from wam.policies.dust.head import DustHead
from wam.policies.dust.model import DustModel
from wam.policies.dust.readings import TIME_BUCKETS, BlockStyle
from wam.policies.dust.records import FeatureKv

CONTRACTION = 3.0
"""Random networks get a velocity of about minus this times the noisy rows, so that their actions are calm."""

CALM_EXAMPLES = 256
RIDGE = 1e-3
TIME_SHARE = 0.1
BRANCH_SHARE = 0.3
LINEAR_BIAS = 6.0


def zero_gates(head: DustHead) -> None:
    """Set every modulation of SD3 blocks to zero (AdaLN-Zero): each block is initially the identity."""
    for block in head.modules():
        if getattr(block, "style", None) is BlockStyle.SD3:
            assert isinstance(block.ada, nn.Linear)
            nn.init.zeros_(block.ada.weight)
            nn.init.zeros_(block.ada.bias)


@torch.no_grad()
def widen_encoders(head: DustHead) -> None:
    """Draw the per-robot layers anew by their inputs: the release's spread of 0.02 hides rows in a small network."""
    for name, parameter in head.named_parameters():
        if name.endswith(".W"):
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)


@torch.no_grad()
def _plain_action_encoder(encoder: ActionEncoder) -> None:
    """Let the action encoder copy its rows into the tokens, so that a random network does not lose them."""
    width = encoder.width
    for slot, first in enumerate(encoder.W1.W):
        basis = torch.linalg.qr(torch.randn(width, width))[0]
        if first.shape[0] <= width:
            first.copy_(basis[: first.shape[0]])
        encoder.W2.W[slot, :width] = torch.eye(width)
        encoder.W2.W[slot, width:] *= TIME_SHARE
        # Far right of its bend the activation is a straight line; W3 takes the distance back.
        encoder.W2.b[slot] = LINEAR_BIAS
        encoder.W3.W[slot] = torch.eye(width)
        encoder.W3.b[slot] = -LINEAR_BIAS


@torch.no_grad()
def calm(head: DustHead, *, generator: torch.Generator, feature_rows: int = 8) -> None:
    """Fit the last layer of every action decoder so that a random network pulls its rows towards zero.

    The other weights stay; the layer is linear, so this is one least-squares problem per robot.

    Args:
        head: random weights.
        generator: of the examples.
        feature_rows: rows of the random features.
    """
    config = head.config
    last = head.action_decoder.layer2
    hidden: list[Tensor] = []

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def keep(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        hidden.append(inputs[0].flatten(0, -2))

    for slot in range(config.embodiments):
        hidden.clear()
        hook = last.register_forward_pre_hook(keep)
        size = torch.rand(CALM_EXAMPLES, 1, 1, generator=generator) * 1.5
        rows = size * normal(CALM_EXAMPLES, config.action_rows, config.action_dim)
        kv = head.project_features(normal(CALM_EXAMPLES, feature_rows, config.width))
        vision = head.has_vision
        bucket = torch.randint(TIME_BUCKETS, (2, CALM_EXAMPLES), generator=generator)
        head(
            FeatureKv(kv.k, kv.v),
            state_BTJ=0.3 * normal(CALM_EXAMPLES, 1, config.state_dim),
            action_BNA=rows,
            future_BPO=normal(CALM_EXAMPLES, config.vision_tokens, config.vision_dim) if vision else None,
            bucket_a=bucket[0],
            bucket_o=bucket[1] if vision else None,
            slot=slot,
        )
        hook.remove()
        x = torch.cat((hidden[0], torch.ones(len(hidden[0]), 1)), dim=1).double()
        gram = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
        fitted = torch.linalg.solve(gram, x.T @ (-CONTRACTION * rows.flatten(0, 1).double()))
        last.W[slot].copy_(fitted[:-1])
        last.b[slot].copy_(fitted[-1])


def random_model(config: DustConfig, *, seed: int) -> DustModel:
    """Build a network with random weights in which every part has an effect and actions stay calm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DustModel(config)
        head = model.head
        assert head is not None
        with torch.no_grad():
            widen_encoders(head)
            for name, parameter in head.named_parameters():
                if ".to_out." in name or ".ff2." in name:
                    parameter.mul_(BRANCH_SHARE)
        _plain_action_encoder(head.action_encoder)
        calm(head.eval(), generator=torch.Generator().manual_seed(seed))
    return model.eval().requires_grad_(False)
