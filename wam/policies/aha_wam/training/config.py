# SPDX-License-Identifier: Apache-2.0
"""Options of an AHA-WAM run, joint training and distillation alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from wam.policies.aha_wam.training.ablation import Ablation
from wam.policies.aha_wam.training.distill import AnchorBias
from wam.policies.aha_wam.training.forward import NoiseTimes
from wam.training.augmentation import AugmentSection, augment_rule
from wam.training.options import DataSection, OptimSection, Rule, TrainConfig, template_rule


@dataclass(frozen=True, slots=True)
class AhaWamModelSection:
    """Where the weights start and which parts are used.

    Attributes:
        bundle: policy bundle to start from; its sizes, cameras, VAE and text encoder are taken over. Null starts
            from `preset`.
        preset: of `wam.policies.aha_wam.config`; without a bundle.
        overrides: fields of the preset to replace (nested sections as mappings); without a bundle.
        video_weights: directory or file with the Wan 2.2 video DiT (original or diffusers names); null starts it at
            random.
        action_backbone: file of `wam init action-dit`; null starts the action DiT at random.
        vae_weights: directory or file with the Wan 2.2 VAE; null takes random weights, which only tests and tiny
            networks can use.
        text: how instructions are embedded, as `text` in policy.yaml: {kind: hash}, {kind: cache, file: PATH} or
            {kind: umt5, directory: PATH}.
        instruction_template: what the text encoder gets; "{task}" stands for the instruction.
        ablation: variant of the paper's Table 2.
        freeze_video: keep the video DiT as it is and drop the video loss.
        seed: of random weights.
    """

    bundle: Path | None = None
    preset: str = "tiny"
    overrides: dict[str, Any] = field(default_factory=dict)
    video_weights: Path | None = None
    action_backbone: Path | None = None
    vae_weights: Path | None = None
    text: dict[str, Any] = field(default_factory=lambda: {"kind": "hash"})
    instruction_template: str = "{task}"
    ablation: Ablation = Ablation.FULL
    freeze_video: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class AhaWamDataSection(DataSection):
    """The data set; it must have a robot.

    Attributes:
        state: column of the measured joints.
        action: column of the action rows.
        stats: dataset_stats.json to use; null computes the statistics.
        horizon_rows: action rows per sample (64 as released, 80 with offsets).
        max_offset: largest offset of the action rows (0, or chunk_rows - 1 for horizon-adaptive training).
        frame_stride: rows between two pictures of the planner's video.
        history_frames: upper bound of the earlier frames that the planner reads.
        latent_cache: folder for VAE latents, or for composed pictures with pixel latents; null reads videos in every
            step.
        relative_actions: action rows are learnt relative to the state at the start of their chunk, and the bundle says
            so; a bundle to start from decides by itself.
        augment: changes of the samples; of pictures only with pixel latents.
        prefix_rows: most first rows of a chunk that are given clean, so that the policy learns to continue rows that
            are executed anyway; every chunk draws 0 to so many. The bundle says so. Joint training only.
    """

    state: str = "observation.state"
    action: str = "action"
    stats: Path | None = None
    horizon_rows: int = 64
    max_offset: int = 0
    frame_stride: int = 8
    history_frames: int = 6
    latent_cache: Path | None = None
    relative_actions: bool = False
    augment: AugmentSection = field(default_factory=AugmentSection)
    prefix_rows: int = 0


@dataclass(frozen=True, slots=True)
class AhaWamOptimSection(OptimSection):
    """Optimisation; the defaults are those of the released code.

    Attributes:
        video_weight: lambda of Eq. 7.
        noise_times: distribution of the flow times (uniform as released, logit_normal as in the paper).
        times_per_chunk: draw a flow time for every chunk, else one per sample.
        recompute_blocks: keep no activations inside transformer blocks; slower, needs far less memory.
    """

    video_weight: float = 1.0
    noise_times: NoiseTimes = NoiseTimes.UNIFORM
    times_per_chunk: bool = True
    recompute_blocks: bool = False


@dataclass(frozen=True, slots=True)
class DistillSection:
    """What only distillation has.

    Attributes:
        anchors: how often each anchor is a starting point (uniform as released, noisy as in the paper).
        anchors_per_chunk: draw an anchor for every chunk, else one per sample.
        steps: integration steps that the distilled bundle names.
    """

    anchors: AnchorBias = AnchorBias.UNIFORM
    anchors_per_chunk: bool = True
    steps: int = 2


@dataclass(frozen=True, slots=True)
class AhaWamTrainConfig(TrainConfig):
    """A whole run."""

    MAY_CHANGE: ClassVar[frozenset[str]] = TrainConfig.MAY_CHANGE | {"latent_cache"}

    data: AhaWamDataSection
    optim: AhaWamOptimSection = field(default_factory=AhaWamOptimSection)
    model: AhaWamModelSection = field(default_factory=AhaWamModelSection)
    distill: DistillSection = field(default_factory=DistillSection)

    def rules(self) -> tuple[Rule, ...]:
        """Return bounds and relations that the types do not express."""
        model, optim = self.model, self.optim
        made = bool(model.overrides or model.video_weights or model.vae_weights or model.action_backbone)
        return (
            *TrainConfig.rules(self),
            augment_rule(self.data.augment),
            (optim.video_weight >= 0, "optim.video_weight", optim.video_weight, "0 or more"),
            (self.distill.steps in (1, 2, 4), "distill.steps", self.distill.steps, "1, 2 or 4"),
            template_rule(model.instruction_template),
            (
                "prefix_rows" not in model.overrides,
                "model.overrides.prefix_rows",
                model.overrides.get("prefix_rows"),
                "data.prefix_rows, which sets it",
            ),
            (
                model.bundle is None or not made,
                "model.bundle gives sizes and weights, but overrides or other weights are set too",
                None,
                "either model.bundle, or model.preset with overrides and weights",
            ),
        )
