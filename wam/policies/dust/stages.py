# SPDX-License-Identifier: Apache-2.0
"""Inference as stages that a backend may capture or export.

    stage             when                          in -> out
    image_features    planner refresh               pixels -> patches of every view
    language          planner refresh               patches, token ids -> features
    projection        planner refresh               features -> K/V of every cross-attention layer
    state_tokens      every chunk                   joint state -> tokens
    action_prefix     after every move of the       actions, their noise level, K/V -> action stream up to its first
                      actions                       joint block
    evaluate_joint    evaluations that move both    action stream, future embedding, noise levels, K/V -> velocities
    evaluate_vision   between two moves, q > 1      as above -> velocity of the future embedding
    evaluate_action   the last one, where only      as above -> velocity of the actions
                      actions are wanted

Each kind of evaluation is a stage of its own, so that a captured one holds nothing that it does not need: no tail of
the actions between two moves. What depends on a noise level is one row of a table, so that it is one copy.

Shapes: B batch, T state tokens, N action rows, A action values, P vision tokens, O vision channels, C cross-attention
layers, S feature rows, D width, W numbers of one noise level.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wam.models.backends.backend import EAGER_NAME
from wam.models.backends.plan import BackendPlan
from wam.models.backends.stage import KernelStage, PolicyPart, StageInputs, StageSpec
from wam.policies.dust.blocks import REGIONS, Qkv
from wam.policies.dust.head import DustHead
from wam.policies.dust.kernel_stages import HeadByKernels
from wam.policies.dust.model import Backbone, FeatureProjection
from wam.policies.dust.readings import HeadStream
from wam.policies.dust.records import FeatureKv, Prefix, StreamModulation, StreamVelocities
from wam.policies.dust.sampling import Tables
from wam.policies.dust.schedule import ChunkSchedule, HeadEvaluation, Kind
from wam.policies.dust.stage_head import StageHead

FeaturePair = tuple[Tensor, Tensor]
"""Keys and values of the features, each [C, B, S, D]."""

SLOT = 0
"""The loader keeps the weights of one robot only."""


class PackedModulation:
    """One noise level of one stream as one row of numbers, and back.

    Args:
        head: whose levels.
        stream: which of its streams.
    """

    def __init__(self, head: StageHead, stream: HeadStream) -> None:
        trunk = [head.trunk_block(i, stream) for i in range(head.config.mm_layers)]
        blocks = [block.ada.out_features for block in (*trunk, *head.tail_blocks(stream))]
        self._blocks = len(blocks)
        encoder = [head.config.width] if stream is HeadStream.ACTION else []
        self._widths = [*blocks, 2 * head.config.width, *encoder]

    @property
    def width(self) -> int:
        """W."""
        return sum(self._widths)

    def pack(self, level: StreamModulation) -> Tensor:
        """Return [W]."""
        parts = (*level.blocks, level.out, *(() if level.encoder is None else (level.encoder,)))
        return torch.cat([part.flatten() for part in parts])

    def unpack(self, packed_W: Tensor) -> StreamModulation:
        """Return the level; its tensors are views."""
        parts = torch.split(packed_W[None, None], self._widths, dim=-1)
        encoder = parts[self._blocks + 1] if len(parts) > self._blocks + 1 else None
        return StreamModulation(tuple(parts[: self._blocks]), parts[self._blocks], encoder)


@dataclass(frozen=True, slots=True)
class PackedTables:
    """Modulations of every noise level of a schedule, one row each.

    Attributes:
        action: bucket -> [W].
        vision: bucket -> [W].
    """

    action: Mapping[int, Tensor]
    vision: Mapping[int, Tensor]


class ImageFeaturesStage(nn.Module):
    """The backbone's vision."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels_V3HW: Tensor) -> Tensor:
        """Return the patches of every view."""
        return self.backbone.see(pixels_V3HW)


class LanguageStage(nn.Module):
    """The backbone's language model and the projection to the head's width."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, patches_VGW: Tensor, ids_BS: Tensor) -> Tensor:
        """Return the features; the ids must have a place for every image token."""
        out: Tensor = self.backbone.linear(self.backbone.state(patches_VGW, ids_BS))
        return out


class ProjectionStage(nn.Module):
    """The planner's share of the head."""

    def __init__(self, projection: FeatureProjection) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, features_BSD: Tensor) -> FeaturePair:
        """Return keys and values of every layer that reads the features."""
        return self.projection.pair(features_BSD)


class StateStage(nn.Module):
    """The state encoder."""

    def __init__(self, head: DustHead) -> None:
        super().__init__()
        self.state_encoder = head.state_encoder

    def forward(self, state_BTJ: Tensor) -> Tensor:
        """Return the state tokens [B, T, D]."""
        out: Tensor = self.state_encoder(state_BTJ.to(self.state_encoder.layer1.W.dtype), SLOT)
        return out


class _HeadStage(nn.Module):
    def __init__(self, head: StageHead) -> None:
        super().__init__()
        self.head = head
        self._levels = {stream: PackedModulation(head, stream) for stream in head.config.streams}


class ActionPrefixStage(_HeadStage):
    """The action stream up to its first joint block."""

    def forward(
        self, state_BTD: Tensor, action_BNA: Tensor, level_W: Tensor, kv: FeaturePair | None
    ) -> tuple[Tensor, ...]:
        """Return the stream; `kv` is None where the first block is a joint one.

        Returns:
            Tokens, and the first joint block's q, k and v of them where there is one.
        """
        level = self._levels[HeadStream.ACTION].unpack(level_W)
        tokens = self.head.action_tokens(state_BTD, action_BNA, level, SLOT)
        features = FeatureKv((), ()) if kv is None else FeatureKv(*kv)
        prefix = self.head.prefix(HeadStream.ACTION, tokens, level, features)
        return (prefix.x, *(prefix.qkv or ()))


class EvaluationStage(_HeadStage):
    """Everything of one evaluation but the action stream's beginning.

    Args:
        head: the network.
        kind: what it gives.
    """

    def __init__(self, head: StageHead, kind: Kind) -> None:
        super().__init__(head)
        self._want_action = kind is not Kind.VISION
        self._want_vision = kind is not Kind.ACTION

    def forward(
        self,
        prefix: tuple[Tensor, ...],
        level_W: Tensor,
        kv: FeaturePair,
        future_BPO: Tensor | None = None,
        future_level_W: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the velocities that its kind has, actions first."""
        features = FeatureKv(*kv)
        tokens, *qkv = prefix
        prefixes = [Prefix(tokens, Qkv(*qkv) if qkv else None)]
        levels = [self._levels[HeadStream.ACTION].unpack(level_W)]
        if future_BPO is not None:
            assert future_level_W is not None
            levels.append(self._levels[HeadStream.VISION].unpack(future_level_W))
            tokens = self.head.vision_tokens(future_BPO)
            prefixes.append(self.head.prefix(HeadStream.VISION, tokens, levels[1], features))
        velocities = self.head.finish(
            prefixes,
            levels,
            features,
            SLOT,
            want_action=self._want_action,
            want_vision=self._want_vision,
        )
        return tuple(v for v in velocities if v is not None)


class HeadStages:
    """The stages of the executor's half.

    Args:
        head: loaded, with the weights of one robot.
        plan: what runs them.
        feature_rows: S of the policy's own instruction; other numbers run as they are written.
    """

    def __init__(self, head: DustHead, plan: BackendPlan, *, feature_rows: int) -> None:
        self._head, self._plan, self._rows = head, plan, feature_rows
        self._levels = {stream: PackedModulation(head, stream) for stream in head.config.streams}
        self._crosses_first = head.config.mm_layers > 0 and not head.config.is_joint(0)
        self._by_kernels: HeadByKernels | None = None
        self.state: Callable[[Tensor], Tensor] = self._prepared(
            "state_tokens", StateStage(head), self._state_examples
        )
        self._prefix: Callable[..., tuple[Tensor, ...]] = self._prepared(
            "action_prefix",
            ActionPrefixStage(head),
            self._prefix_examples,
            lambda _: ActionPrefixStage(self._kernels()),
        )
        self._evaluate: dict[Kind, Callable[..., tuple[Tensor, ...]]] = {}
        plan.declare("schedule", EAGER_NAME, "computed once for each sampler, not for each chunk")

    def meet(self, kinds: Collection[Kind]) -> None:
        """Prepare the kinds of evaluation that a sampler has; belongs before the policy acts.

        Raises:
            BundleError: as `BackendPlan.prepare`.
            PolicyFault: as `BackendPlan.prepare`.
        """
        for kind in kinds:
            if kind not in self._evaluate:
                stage = EvaluationStage(self._head, kind)
                self._evaluate[kind] = self._prepared(
                    f"evaluate_{kind.value}",
                    stage,
                    self._evaluation_examples,
                    self._kernel_evaluation(kind),
                )

    def _kernel_evaluation(self, kind: Kind) -> KernelStage:
        return lambda _: EvaluationStage(self._kernels(), kind)

    def tables(self, tables: Tables) -> PackedTables:
        """Return the modulations of a schedule as the stages take them."""
        action = self._levels[HeadStream.ACTION]
        vision = self._levels.get(HeadStream.VISION)
        return PackedTables(
            {bucket: action.pack(level) for bucket, level in tables.action.items()},
            {} if vision is None else {bucket: vision.pack(level) for bucket, level in tables.vision.items()},
        )

    def prefix(
        self, state_BTD: Tensor, action_BNA: Tensor, level_W: Tensor, kv: FeaturePair
    ) -> tuple[Tensor, ...]:
        """Run the action stream up to its first joint block."""
        return self._prefix(state_BTD, action_BNA, level_W, kv if self._crosses_first else None)

    def evaluate(
        self,
        kind: Kind,
        prefix: tuple[Tensor, ...],
        level_W: Tensor,
        kv: FeaturePair,
        future_BPO: Tensor | None,
        future_level_W: Tensor | None,
    ) -> StreamVelocities:
        """Run the rest of an evaluation, of a kind that was met."""
        given = (prefix, level_W, kv)
        if future_BPO is None:
            (action,) = self._evaluate[kind](*given)
            return StreamVelocities(action, None)
        out = self._evaluate[kind](*given, future_BPO, future_level_W)
        return StreamVelocities(
            None if kind is Kind.VISION else out[0], None if kind is Kind.ACTION else out[-1]
        )

    def _prepared(
        self,
        name: str,
        module: nn.Module,
        examples: Callable[[], list[StageInputs]],
        kernels: KernelStage | None = None,
    ) -> Callable[..., Any]:
        # Both have blocks, or neither has.
        regions = () if kernels is None else REGIONS
        stage = StageSpec(
            name,
            PolicyPart.EXECUTOR,
            module.eval(),
            examples,
            immutable=True,
            kernels=kernels,
            regions=regions,
        )
        return self._plan.prepare(stage)

    def _kernels(self) -> HeadByKernels:
        """Return the head by kernels, which all stages share."""
        if self._by_kernels is None:
            self._by_kernels = HeadByKernels(self._head)
        return self._by_kernels

    # Inputs of the shapes that calls have.

    def _zeros(self, *sizes: int) -> Tensor:
        return torch.zeros(*sizes, dtype=self._head.dtype, device=self._head.device)

    def _rounded(self, *sizes: int) -> Tensor:
        return torch.zeros(*sizes, device=self._head.device)

    def _kv(self) -> FeaturePair:
        sizes = (len(self._head.config.cross_layers()), 1, self._rows, self._head.config.width)
        return self._zeros(*sizes), self._zeros(*sizes)

    def _state_examples(self) -> list[StageInputs]:
        return [StageInputs.of(self._rounded(1, 1, self._head.config.state_dim))]

    def _start(self) -> tuple[Tensor, Tensor, Tensor]:
        config = self._head.config
        return (
            self._zeros(1, 1, config.width),
            self._rounded(1, config.action_rows, config.action_dim),
            self._zeros(self._levels[HeadStream.ACTION].width),
        )

    def _prefix_examples(self) -> list[StageInputs]:
        return [StageInputs.of(*self._start(), self._kv() if self._crosses_first else None)]

    def _evaluation_examples(self) -> list[StageInputs]:
        config, kv = self._head.config, self._kv()
        state, action, level = self._start()
        prefix = ActionPrefixStage(self._head)(state, action, level, kv if self._crosses_first else None)
        given: tuple[object, ...] = (prefix, level, kv)
        if self._head.has_vision:
            future = self._rounded(1, config.vision_tokens, config.vision_dim)
            given += (future, self._zeros(self._levels[HeadStream.VISION].width))
        return [StageInputs.of(*given)]


class StagedVelocity:
    """The head as a velocity field over one chunk, through its stages.

    Args:
        stages: of the head.
        kv: keys and values from the planner.
        state_BTJ: normalised state.
        tables: of the schedule.
        plan: the schedule.
    """

    def __init__(
        self,
        stages: HeadStages,
        *,
        kv: FeaturePair,
        state_BTJ: Tensor,
        tables: PackedTables,
        plan: ChunkSchedule,
    ) -> None:
        self._stages, self._kv, self._tables = stages, kv, tables
        self._reuse = plan.savings.reuse_frozen_action
        self._state = stages.state(state_BTJ)
        self._prefix: tuple[Tensor, ...] | None = None

    def __call__(self, action: Tensor, future: Tensor | None, evaluation: HeadEvaluation) -> StreamVelocities:
        """Return the velocities that the evaluation needs."""
        level = self._tables.action[evaluation.bucket_a]
        if self._prefix is None or not (self._reuse and evaluation.same_action):
            self._prefix = self._stages.prefix(self._state, action, level, self._kv)
        of_future = None if future is None else self._tables.vision[evaluation.bucket_o]
        return self._stages.evaluate(evaluation.kind, self._prefix, level, self._kv, future, of_future)
