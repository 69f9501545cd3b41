# SPDX-License-Identifier: Apache-2.0
"""State policy: joint positions and a simulation's ground truth in, a chunk out; the first rung for a new task."""

from __future__ import annotations

from wam.policies.kind import PolicyKind, TrainingCommand

POLICY_KIND = PolicyKind(
    name="state",
    title="State",
    policy="wam.policies.state.policy",
    presets="wam.policies.state.config:PRESETS",
    parameter_counts="wam.policies.state.network:parameter_counts",
    train=TrainingCommand(
        recipe="wam.policies.state.training.recipe:RECIPE",
        help="Train a small network on joint positions and ground truth (wam sim record --truth).",
    ),
)
