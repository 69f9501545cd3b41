# SPDX-License-Identifier: Apache-2.0
"""Which evaluations of the network one chunk takes, and with what noise levels (paper section 4.3).

A global clock tau = i / N_o runs over N_o = q N_A evaluations. The future embedding moves by 1 / N_o at every
one, the actions by 1 / N_A once in q. Velocities are taken before tau advances, so the first is at tau = 0 and
none at tau = 1.

    N_A = 4, q = 4, evaluation i      0  1  2  3 | 4  5  6  7 | 8  9 10 11 |12 13 14 15
    rule end (Algorithm 2)            .  .  .  A   .  .  .  A   .  .  .  A   .  .  .  A
    rule start (Eq. 5)                A  .  .  .   A  .  .  .   A  .  .  .   A  .  .  .
    bucket of the future embedding    0 62 125 187 250 312 ...                     937
    bucket of the actions, own        0  0  0  0 250 250 ...                       750
    bucket of the actions, clock      as the future embedding
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from wam.core.errors import ConfigError
from wam.policies.dust.readings import TIME_BUCKETS

MAX_EVALUATIONS = 4096


class ActionRule(enum.Enum):
    """When the actions move within a run of q evaluations (reading 11)."""

    END = "end"
    START = "start"


class ActionTime(enum.Enum):
    """Noise level given to the network for actions that are not denoised in a step (reading 10)."""

    OWN = "own"
    CLOCK = "clock"


class Kind(enum.Enum):
    """What an evaluation gives."""

    JOINT = "joint"
    """Both velocities."""
    VISION = "vision"
    """The future embedding's only; the action's tail is not run."""
    ACTION = "action"
    """The actions' only; the vision tail is not run."""


@dataclass(frozen=True, slots=True)
class Savings:
    """Work that is not repeated; each one is exact.

    Attributes:
        features_once: keys and values of the features once per chunk.
        tables: modulations once per noise level, and the state token once per chunk.
        skip_action_tail: the action's tail only where the actions move.
        reuse_frozen_action: the action stream before its first joint block only after the actions have moved.
        skip_last_vision: no vision tail in the last evaluation, where only actions are wanted.
        drop_after_last_move: no evaluation after the actions' last move, where only actions are wanted.
    """

    features_once: bool = True
    tables: bool = True
    skip_action_tail: bool = True
    reuse_frozen_action: bool = True
    skip_last_vision: bool = True
    drop_after_last_move: bool = True


NO_SAVINGS = Savings(False, False, False, False, False, False)
ALL_SAVINGS = Savings()


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """How chunks are sampled; all of it may change between chunks.

    Attributes:
        action_steps: N_A, moves of the actions.
        q: evaluations per move; N_o = q N_A (test-time scaling).
        rule: when the actions move.
        action_time: noise level given to the network for actions that are not denoised in a step.
        future: the future embedding is wanted too, so it is denoised to its end.
        seed: of the start noise.
        guidance: largest weight of the guidance towards what is executed anyway (`wam.models.layers.guidance`); 0 for
            none.
    """

    action_steps: int = 4
    q: int = 1
    rule: ActionRule = ActionRule.END
    action_time: ActionTime = ActionTime.OWN
    future: bool = True
    seed: int = 0
    guidance: float = 0.0

    def __post_init__(self) -> None:
        for name in ("action_steps", "q"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f"sampler.{name}", value=value, allowed="an integer of 1 or more", where=_WHERE
                )
        guidance = self.guidance
        real = isinstance(guidance, int | float) and not isinstance(guidance, bool)
        if not real or not 0.0 <= guidance < math.inf:
            raise ConfigError("sampler.guidance", value=guidance, allowed="0 or more", where=_WHERE)
        if self.vision_steps > MAX_EVALUATIONS:
            raise ConfigError(
                "sampler: action_steps * q",
                value=self.vision_steps,
                allowed=f"at most {MAX_EVALUATIONS}",
                where=_WHERE,
            )

    @property
    def vision_steps(self) -> int:
        """N_o, moves of the future embedding."""
        return self.action_steps * self.q

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `policy.yaml`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: value.value if isinstance(value, enum.Enum) else value for name, value in values.items()
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> SamplerSettings:
        """Read the `sampler` section of `policy.yaml`; what is absent keeps its default.

        Raises:
            ConfigError: a key is unknown or a value illegal.
        """
        known = {f.name for f in fields(SamplerSettings)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"sampler: unknown keys {unknown}", allowed=f"{sorted(known)}", where=_WHERE)
        read = dict(values)
        for name, kind in (("rule", ActionRule), ("action_time", ActionTime)):
            if name in read:
                try:
                    read[name] = kind(read[name])
                except ValueError as error:
                    raise ConfigError(
                        f"sampler.{name}",
                        value=read[name],
                        allowed=f"{[k.value for k in kind]}",
                        where=_WHERE,
                    ) from error
        return replace(SamplerSettings(), **read)


_WHERE = "the sampler section of policy.yaml, or the arguments of the sampler"


@dataclass(frozen=True, slots=True)
class HeadEvaluation:
    """One evaluation of the network.

    Attributes:
        index: i, from 0.
        bucket_a: noise level given to the network for the actions.
        bucket_o: noise level given to the network for the future embedding.
        moves: the actions move after it.
        want_action: the actions' velocity is computed.
        want_vision: the future embedding's velocity is computed.
        same_action: actions and their noise level are those of the evaluation before.
    """

    index: int
    bucket_a: int
    bucket_o: int
    moves: bool
    want_action: bool
    want_vision: bool
    same_action: bool

    @property
    def kind(self) -> Kind:
        """What it gives."""
        if self.want_action and self.want_vision:
            return Kind.JOINT
        return Kind.ACTION if self.want_action else Kind.VISION


@dataclass(frozen=True, slots=True)
class ChunkSchedule:
    """All evaluations of one chunk.

    Attributes:
        settings: what it was made from.
        savings: what it leaves out.
        evaluations: in order.
    """

    settings: SamplerSettings
    savings: Savings
    evaluations: tuple[HeadEvaluation, ...]

    @property
    def future_tau(self) -> float:
        """Noise level at which the future embedding ends; 1 where it is denoised to its end."""
        return sum(e.want_vision for e in self.evaluations) / self.settings.vision_steps

    def counts(self) -> dict[str, int]:
        """Return the number of evaluations by kind, and of all under "total"."""
        counts = Counter(e.kind.value for e in self.evaluations)
        return {**{k.value: counts[k.value] for k in Kind}, "total": len(self.evaluations)}


def bucket(step: int, steps: int) -> int:
    """Return floor(1000 * step / steps) in integer arithmetic, at most 999.

    The limit is met under the rule `start`, where finished actions (tau = 1) stay beside a future embedding that
    is not finished yet.
    """
    return min(TIME_BUCKETS * step // steps, TIME_BUCKETS - 1)


def schedule(settings: SamplerSettings, *, savings: Savings = ALL_SAVINGS) -> ChunkSchedule:
    """Lay out the evaluations of one chunk.

    Args:
        settings: of the sampler.
        savings: what may be skipped; only `features_once` and `tables` do not change the list.
    """
    n_a, q, n_o = settings.action_steps, settings.q, settings.vision_steps
    offset = q - 1 if settings.rule is ActionRule.END else 0
    moves = [i % q == offset for i in range(n_o)]
    last_move = max(i for i in range(n_o) if moves[i])
    dropped = savings.drop_after_last_move and not settings.future
    total = last_move + 1 if dropped else n_o
    evaluations: list[HeadEvaluation] = []
    for i in range(total):
        own = bucket(sum(moves[:i]), n_a)
        bucket_a = own if settings.action_time is ActionTime.OWN else bucket(i, n_o)
        before = evaluations[-1] if evaluations else None
        evaluations.append(
            HeadEvaluation(
                index=i,
                bucket_a=bucket_a,
                bucket_o=bucket(i, n_o),
                moves=moves[i],
                want_action=moves[i] or not savings.skip_action_tail,
                want_vision=settings.future or i + 1 < total or not savings.skip_last_vision,
                same_action=before is not None and not before.moves and before.bucket_a == bucket_a,
            )
        )
    return ChunkSchedule(settings, savings, tuple(evaluations))
