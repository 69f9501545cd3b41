# SPDX-License-Identifier: Apache-2.0
"""UD-VLA: future image and action decoded together by discrete denoising (JD3P), on one Emu3 decoder."""

from __future__ import annotations

from wam.policies.kind import PolicyKind, TrainingCommand

POLICY_KIND = PolicyKind(
    name="ud_vla",
    title="UD-VLA",
    policy="wam.policies.ud_vla.policy",
    presets="wam.policies.ud_vla.config:PRESETS",
    parameter_counts="wam.policies.ud_vla.model:parameter_counts",
    convert="wam.policies.ud_vla.commands:CONVERT",
    train=TrainingCommand(
        recipe="wam.policies.ud_vla.training.recipe:RECIPE",
        help="Train a stage of UD-VLA: video world-modelling, or joint denoising of image and action.",
    ),
)
