# SPDX-License-Identifier: Apache-2.0
"""AHA-WAM: a slow video DiT plans, a fast action DiT executes (paper: arXiv 2606.09811)."""

from __future__ import annotations

from wam.policies.kind import PolicyKind, TrainingCommand

POLICY_KIND = PolicyKind(
    name="aha_wam",
    title="AHA-WAM",
    policy="wam.policies.aha_wam.policy",
    presets="wam.policies.aha_wam.config:PRESETS",
    parameter_counts="wam.policies.aha_wam.model:parameter_counts",
    convert="wam.policies.aha_wam.commands:CONVERT",
    init="wam.policies.aha_wam.commands:INIT",
    train=TrainingCommand(
        recipe="wam.policies.aha_wam.training.recipe:RECIPE",
        help="Train planner and executor of AHA-WAM together.",
    ),
    distill=TrainingCommand(
        recipe="wam.policies.aha_wam.training.recipe:DISTILL_RECIPE",
        help="Make AHA-WAM-Flash: a 1-, 2- or 4-step student of a 16-step teacher; the planner stays as it is.",
    ),
)
