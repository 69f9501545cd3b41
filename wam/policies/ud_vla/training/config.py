# SPDX-License-Identifier: Apache-2.0
"""Options of a UD-VLA run.

model      where the weights start
data       a LeRobot data set
actions    how action chunks become tokens
objective  which stage is trained: (i) video world-modelling, (ii) JD3P masked prediction
optim      AdamW; the defaults are those of the published CALVIN run
run        the run itself (`wam.training.options.RunSection`)
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from wam.core.errors import ConfigError
from wam.policies.ud_vla.config import MaskMode
from wam.policies.ud_vla.training.objective import MaskLaw, TrainingStage
from wam.training.options import DataSection, OptimSection, Rule, TrainConfig, template_rule


class TokenizerSource(enum.Enum):
    """Where the action vocabulary comes from."""

    AUTO = "auto"
    """That of the bundle that is trained further; without one it is fitted."""
    FIT = "fit"
    """Fitted on the action chunks of the data set."""
    FILE = "file"
    """A published FAST folder, or `action_tokenizer.json` of a bundle."""


@dataclass(frozen=True, slots=True)
class UdVlaModelSection:
    """Where the weights start.

    Attributes:
        bundle: policy bundle to train further (a converted UniVLA or Emu3, stage (i), an earlier run); sizes, cameras,
            image tokenizer and text are taken over.
        preset: of `wam.policies.ud_vla.config`; without a bundle, with random weights and bytes as text.
        overrides: fields of the network to replace; not with `bundle`.
        mask: attention mask of stage (ii); null takes the bundle's, or hybrid.
        instruction_template: "{task}" stands for the instruction; not with `bundle`.
        seed: of random weights.
    """

    bundle: Path | None = None
    preset: str = "tiny"
    overrides: dict[str, Any] = field(default_factory=dict)
    mask: MaskMode | None = None
    instruction_template: str = "{task}"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class UdVlaDataSection(DataSection):
    """The data set; the network does not read the state.

    Attributes:
        sides: [height, width] that the policy sees of each camera [px], multiples of 8; empty takes 200 and 80 (32
            and 16 for tiny vocabularies). Not with `model.bundle`.
        stride: rows of the data set per row of the policy (2 makes 15 Hz of 30).
        chunk_rows: rows of a chunk; the future image lies so many rows ahead. Not with `model.bundle`.
        code_cache: folder for image codes; null encodes images in every step.
    """

    sides: tuple[tuple[int, ...], ...] = ()
    stride: int = 1
    chunk_rows: int = 8
    code_cache: Path | None = None

    @property
    def has_robot(self) -> bool:
        """Whether joints are read; videos may come without a robot."""
        return self.state is not None and self.action is not None


@dataclass(frozen=True, slots=True)
class UdVlaActionSection:
    """How action chunks become tokens (FAST).

    Attributes:
        tokenizer: where the vocabulary comes from.
        file: published FAST folder or `action_tokenizer.json`; with `tokenizer: file`.
        scale: steps per unit of a coefficient, where one is fitted.
        vocab_size: most tokens, where one is fitted; null takes what the network has room for (256 for tiny
            vocabularies).
        action_len: sites of the action block with BOA; null takes the preset's, or as many as any chunk can need for
            tiny vocabularies. Not with `model.bundle`.
    """

    tokenizer: TokenizerSource = TokenizerSource.AUTO
    file: Path | None = None
    scale: float = 10.0
    vocab_size: int | None = None
    action_len: int | None = None


@dataclass(frozen=True, slots=True)
class UdVlaObjectiveSection:
    """What is minimised.

    Attributes:
        stage: video (i) or jd3p (ii).
        frames: images of a sequence in stage (i), `chunk_rows` apart.
        law: how the share of masked sites is drawn: independent for image and action (public code) or joint (paper).
        visual_weight: weight of image codes in the loss of stage (ii).
        protect_marks: never mask BOI, EOI and BOA, which are known when decoding.
    """

    stage: TrainingStage = TrainingStage.JD3P
    frames: int = 2
    law: MaskLaw = MaskLaw.INDEPENDENT
    visual_weight: float = 0.5
    protect_marks: bool = True


@dataclass(frozen=True, slots=True)
class UdVlaOptimSection(OptimSection):
    """Optimisation; the defaults are those of the published CALVIN run.

    Attributes:
        dropout: of attention, embedding and each residual branch.
        recompute_layers: keep no activations inside decoder layers; slower, needs far less memory.
    """

    steps: int | None = 24_000
    epochs: int = 1
    batch_size: int = 4
    accumulate: int = 4
    learning_rate: float = 8e-5
    final_fraction: float = 0.0625
    warmup_fraction: float = 0.0021
    weight_decay: float = 0.1
    clip_norm: float = 5.0
    dropout: float = 0.1
    recompute_layers: bool = False


@dataclass(frozen=True, slots=True)
class UdVlaTrainConfig(TrainConfig):
    """A whole run."""

    MAY_CHANGE: ClassVar[frozenset[str]] = TrainConfig.MAY_CHANGE | {"code_cache"}

    data: UdVlaDataSection
    optim: UdVlaOptimSection = field(default_factory=UdVlaOptimSection)
    model: UdVlaModelSection = field(default_factory=UdVlaModelSection)
    actions: UdVlaActionSection = field(default_factory=UdVlaActionSection)
    objective: UdVlaObjectiveSection = field(default_factory=UdVlaObjectiveSection)

    def rules(self) -> tuple[Rule, ...]:
        """Return bounds and relations that the types do not express."""
        return (*TrainConfig.rules(self), *self._data_rules(), *self._model_rules())

    def _data_rules(self) -> tuple[Rule, ...]:
        data, objective = self.data, self.objective
        nothing = objective.stage is TrainingStage.VIDEO and data.state is None and data.action is None
        sides_fit = not data.sides or (
            len(data.sides) == len(data.cameras) and all(len(side) == 2 for side in data.sides)
        )
        return (
            (sides_fit, "data.sides", data.sides, "one [height, width] for each of data.cameras"),
            (data.stride > 0, "data.stride", data.stride, "a positive number"),
            (data.chunk_rows > 0, "data.chunk_rows", data.chunk_rows, "a positive number"),
            (
                data.has_robot or nothing,
                "data.state, data.action",
                (data.state, data.action),
                "columns of the data set; both null only in stage video",
            ),
            (objective.frames > 1, "objective.frames", objective.frames, "at least 2"),
            (
                objective.visual_weight > 0,
                "objective.visual_weight",
                objective.visual_weight,
                "a positive number",
            ),
        )

    def _model_rules(self) -> tuple[Rule, ...]:
        data, model, actions, optim = self.data, self.model, self.actions, self.optim
        sized = model.overrides or data.sides or actions.action_len is not None
        return (
            (0 <= optim.dropout < 1, "optim.dropout", optim.dropout, "0 to below 1"),
            (actions.scale > 0, "actions.scale", actions.scale, "a positive number"),
            (
                (actions.file is not None) == (actions.tokenizer is TokenizerSource.FILE),
                "actions.file",
                actions.file,
                "a path with `tokenizer: file`, and only then",
            ),
            (model.mask is not MaskMode.CAUSAL, "model.mask", "causal", "hybrid or released"),
            (
                model.bundle is None or not sized,
                "model.overrides, data.sides, actions.action_len",
                (model.overrides, data.sides, actions.action_len),
                "nothing beside model.bundle, whose network is trained further",
            ),
            template_rule(model.instruction_template),
        )


def require_same_cameras(given: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse cameras that a bundle does not have.

    Raises:
        ConfigError: names or order differ.
    """
    if tuple(given) != tuple(wanted):
        raise ConfigError(
            "data.cameras, data.camera_names",
            value=list(given),
            allowed=f"{list(wanted)}, as the bundle has",
            where="data.camera_names",
        )
