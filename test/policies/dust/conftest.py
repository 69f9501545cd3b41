# SPDX-License-Identifier: Apache-2.0
"""A small head in which every weight matters, and a batch for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from wam.policies.dust.config import DustConfig, EagleConfig
from wam.policies.dust.head import DustHead
from wam.policies.dust.records import FeatureKv
from wam.policies.dust.sampling import SampledChunk, noise, sample
from wam.policies.dust.schedule import SamplerSettings, Savings, schedule

BATCH = 3
FEATURE_ROWS = 7
STD = 0.15

SMALL = DustConfig(
    heads=4,
    head_dim=6,
    mm_layers=4,
    tail_layers=2,
    hidden=20,
    state_dim=7,
    action_dim=5,
    action_rows=4,
    embodiments=3,
    grid=3,
    max_positions=8,
    eagle=EagleConfig(
        image_size=42, patch=7, vision_width=10, vision_heads=2, language_width=16, language_heads=2
    ),
)


@dataclass(frozen=True)
class Case:
    """A head and inputs of a batch of three, each row another robot."""

    head: DustHead
    features: Tensor
    mask: Tensor
    state: Tensor
    action: Tensor
    future: Tensor
    slot: Tensor

    @property
    def config(self) -> DustConfig:
        return self.head.config

    def kv(self) -> FeatureKv:
        return self.head.project_features(self.features, self.mask)

    def velocities(self, **changes: Any):
        inputs = {
            "state_BTJ": self.state,
            "action_BNA": self.action,
            "future_BPO": self.future if self.head.has_vision else None,
            "bucket_a": torch.tensor([100, 500, 900]),
            "bucket_o": torch.tensor([700, 50, 300]) if self.head.has_vision else None,
            "slot": self.slot,
            **changes,
        }
        kv = inputs.pop("kv", None) or self.kv()
        return self.head(kv, **inputs)

    def sampled(
        self,
        settings: SamplerSettings,
        *,
        savings: Savings,
        features: Any = None,
        trace: Any = None,
        seed: int = 0,
    ) -> SampledChunk:
        action, future = noise(self.config, batch=BATCH, generator=torch.Generator().manual_seed(seed))
        if features is None:
            features = self.kv() if savings.features_once else self.kv
        return sample(
            self.head,
            features=features,
            state_BTJ=self.state,
            slot=self.slot,
            action_BNA=action,
            future_BPO=future,
            plan=schedule(settings, savings=savings),
            trace=trace,
        )


def make_case(config: DustConfig, *, seed: int = 0) -> Case:
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = DustHead(config).eval()
        for parameter in head.parameters():
            parameter.data += STD * torch.randn_like(parameter)
        mask = torch.ones(BATCH, FEATURE_ROWS, dtype=torch.bool)
        mask[1, :3] = False
        return Case(
            head=head,
            features=torch.randn(BATCH, FEATURE_ROWS, config.width),
            mask=mask,
            state=torch.randn(BATCH, 1, config.state_dim),
            action=torch.randn(BATCH, config.action_rows, config.action_dim),
            future=torch.randn(BATCH, config.vision_tokens, config.vision_dim),
            slot=torch.tensor([0, 2, 1]),
        )


@pytest.fixture
def small() -> DustConfig:
    return SMALL


@pytest.fixture
def case_of() -> Callable[..., Case]:
    return lambda **changes: make_case(replace(SMALL, **changes))
