# SPDX-License-Identifier: Apache-2.0
"""DUST: dual-stream diffusion of an action chunk and of the image embedding that follows it."""

from __future__ import annotations

from wam.policies.kind import PolicyKind, TrainingCommand

POLICY_KIND = PolicyKind(
    name="dust",
    title="DUST",
    policy="wam.policies.dust.policy",
    presets="wam.policies.dust.config:PRESETS",
    parameter_counts="wam.policies.dust.model:parameter_counts",
    convert="wam.policies.dust.commands:CONVERT",
    train=TrainingCommand(
        recipe="wam.policies.dust.training.recipe:RECIPE",
        help="Train DUST on robot data or on videos alone, its ablations and its baselines.",
    ),
)
