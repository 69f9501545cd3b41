# SPDX-License-Identifier: Apache-2.0
"""Options of a DUST run.

model      where the weights start, which reading and ablation is trained
data       a LeRobot data set
objective  what is minimised: joint, videos without actions, alignment baseline, or actions alone
optim      AdamW; the defaults are the paper's
run        the run itself (`wam.training.options.RunSection`)
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from wam.policies.dust.training.losses import ActionFreeTime, TimeLaw
from wam.training.augmentation import AugmentSection, augment_rule
from wam.training.options import DataSection, OptimSection, Rule, TrainConfig, template_rule


class ObjectiveKind(enum.Enum):
    """What a run minimises."""

    JOINT = "joint"
    """L_A + lambda L_WM (paper Eq. 4)."""
    ACTION_FREE = "action-free"
    """lambda L_WM on videos without actions (paper 5.2)."""
    ALIGNMENT = "alignment"
    """Actions, and an inner layer aligned with the future embedding: the FLARE baseline; GR00T-N1's head."""
    ACTION_ONLY = "action-only"
    """Actions alone: the GR00T-N1 baseline."""


class HeadAblation(enum.Enum):
    """Variants of the head in Table 6."""

    NONE = "none"
    SINGLE_STREAM = "single-stream"
    """One stream of blocks over the tokens of both modalities."""


@dataclass(frozen=True, slots=True)
class DustModelSection:
    """Where the weights start.

    Attributes:
        bundle: policy bundle to train further (after videos, or a converted GR00T-N1); sizes, backbone, head and joints
            are taken over.
        backbone: policy bundle whose backbone is taken while the head starts anew, as the paper trains; sizes of the
            head come from it too, changed by `overrides`.
        preset: of `wam.policies.dust.config`; without a bundle.
        overrides: fields of the network to replace (readings of the paper, depth); not with `bundle`.
        ablation: variant of the head (Table 6a); not with `bundle`.
        mm_layers: blocks of the trunk (Table 6b), the rest of the depth goes to the tails; null keeps it. Not with
            `bundle`.
        embodiment: slot of the encoders that is trained.
        zero_gates: blocks of a new head begin as the identity (AdaLN-Zero).
        freeze_linear: the projection of the features stays as it is.
        text: how instructions become tokens, as `text` in policy.yaml; without a bundle.
        instruction_template: "{task}" stands for the instruction.
        seed: of random weights.
    """

    bundle: Path | None = None
    backbone: Path | None = None
    preset: str = "tiny"
    overrides: dict[str, Any] = field(default_factory=dict)
    ablation: HeadAblation = HeadAblation.NONE
    mm_layers: int | None = None
    embodiment: int = 0
    zero_gates: bool = True
    freeze_linear: bool = False
    text: dict[str, Any] = field(default_factory=lambda: {"kind": "hash"})
    instruction_template: str = "{task}"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DustDataSection(DataSection):
    """The data set.

    Attributes:
        binary_joints: action joints with two positions.
        crop: part of each side of a picture that is kept.
        crop_and_jitter: random place of the crop and colour jitter of the current pictures, as GR00T-N1 is trained; not
            with a feature cache.
        augment: changes of the samples; of pictures not where a cache holds what Eagle-2 made of them.
        relative_actions: action rows are learnt relative to the state, and the bundle says so; a bundle to start from
            decides by itself.
        count_past_end: the world-model loss counts rows whose future lies past the episode (its last picture).
        feature_cache: folder for the backbone's states and targets, or for prepared pictures where the vision learns
            (`patches`); null reads videos in every step.
    """

    binary_joints: tuple[str, ...] = ()
    crop: float = 0.95
    crop_and_jitter: bool = False
    augment: AugmentSection = field(default_factory=AugmentSection)
    relative_actions: bool = False
    count_past_end: bool = True
    feature_cache: Path | None = None


@dataclass(frozen=True, slots=True)
class DustObjectiveSection:
    """What is minimised.

    Attributes:
        kind: which losses.
        world_weight: lambda of Eq. 4 (Table 6c), or the weight of the alignment.
        action_law: distribution of the actions' noise level.
        vision_law: distribution of the future embedding's noise level.
        joint_noise: one noise level for both modalities (Table 6a).
        action_free_time: noise level that the network is given for missing actions.
        alignment_layer: block after which the alignment baseline reads its tokens, from 1.
    """

    kind: ObjectiveKind = ObjectiveKind.JOINT
    world_weight: float = 1.0
    action_law: TimeLaw = TimeLaw.N1
    vision_law: TimeLaw = TimeLaw.N1
    joint_noise: bool = False
    action_free_time: ActionFreeTime = ActionFreeTime.ZERO
    alignment_layer: int = 6


@dataclass(frozen=True, slots=True)
class DustOptimSection(OptimSection):
    """Optimisation; the defaults are the paper's (A.2) and, where it is silent, GR00T-N1's.

    Biases of linear layers and LayerNorm are exempt from weight decay.
    """

    batch_size: int = 32
    learning_rate: float = 1e-4
    final_fraction: float = 0.0
    weight_decay: float = 1e-5
    beta1: float = 0.95
    beta2: float = 0.999


@dataclass(frozen=True, slots=True)
class DustTrainConfig(TrainConfig):
    """A whole run."""

    MAY_CHANGE: ClassVar[frozenset[str]] = TrainConfig.MAY_CHANGE | {"feature_cache"}

    data: DustDataSection
    optim: DustOptimSection = field(default_factory=DustOptimSection)
    model: DustModelSection = field(default_factory=DustModelSection)
    objective: DustObjectiveSection = field(default_factory=DustObjectiveSection)

    @property
    def videos_alone(self) -> bool:
        """Whether no joint is read: videos are pictures alone, even where a robot was recorded beside them."""
        return self.objective.kind is ObjectiveKind.ACTION_FREE

    def rules(self) -> tuple[Rule, ...]:
        """Return bounds and relations that the types do not express."""
        data, objective, model = self.data, self.objective, self.model
        fresh = model.bundle is None
        changed = model.overrides or model.mm_layers is not None or model.ablation is not HeadAblation.NONE
        return (
            *TrainConfig.rules(self),
            (0 < data.crop <= 1, "data.crop", data.crop, "above 0, at most 1"),
            (
                not (data.crop_and_jitter and data.feature_cache),
                "data.crop_and_jitter",
                True,
                "false with data.feature_cache: what is cached cannot change",
            ),
            augment_rule(data.augment),
            (
                self.videos_alone or (data.action is not None and data.state is not None),
                "data.action, data.state",
                (data.action, data.state),
                "columns of the data set, unless objective.kind is action-free",
            ),
            (objective.world_weight >= 0, "objective.world_weight", objective.world_weight, "0 or more"),
            (
                not self.videos_alone or objective.world_weight > 0,
                "objective.world_weight",
                objective.world_weight,
                "above 0 where there are no actions to learn",
            ),
            (fresh or model.backbone is None, "model.backbone", model.backbone, "null beside model.bundle"),
            (
                fresh or not changed,
                "model.overrides, mm_layers, ablation",
                model.overrides,
                "nothing beside model.bundle, whose network is trained further",
            ),
            template_rule(model.instruction_template),
        )
