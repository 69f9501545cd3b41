# SPDX-License-Identifier: Apache-2.0
"""Scripts: what the arms of a robot do one after another, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wam.sim.experts.goals import ToolGoal
from wam.sim.experts.kinematics import EVERYTHING
from wam.sim.tasks.criteria import Criterion


@dataclass(frozen=True, slots=True)
class Effector:
    """An arm and its gripper or hand.

    Attributes:
        name: by which steps call it: "arm", "left".
        tool: link that goals are about.
        fingers: policy-side names of the joints that open and close it.
        open: their positions when open [rad, m or 1].
        closed: their positions when closed.
    """

    name: str
    tool: str
    fingers: tuple[str, ...]
    open: tuple[float, ...]
    closed: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.fingers) == len(self.open) == len(self.closed):
            raise ValueError(
                f"{self.name}: {len(self.fingers)} fingers, open {self.open}, closed {self.closed}"
            )


@dataclass(frozen=True, slots=True)
class Move:
    """Brings tools to goals. Several effectors in one move share its timing, so that what both hold stays held.

    Attributes:
        goals: effector -> where to.
        straight: the tools go along straight lines; otherwise the joints do.
        rigid: of a straight move of several tools: the first one goes along a line, and all keep their poses against
            it on the way, as what they hold together demands.
        speed: 0..1, share of the fastest motion within the limits.
        weights: which errors of the pose count; see `InverseKinematics.solve`.
    """

    goals: Mapping[str, ToolGoal]
    straight: bool = False
    rigid: bool = False
    speed: float = 1.0
    weights: tuple[float, ...] = EVERYTHING


@dataclass(frozen=True, slots=True)
class Grip:
    """Opens or closes fingers.

    Attributes:
        effector: whose; several move at once.
        closing: 0 open, 1 closed, or one share per finger.
        wait: time after the motion, for the fingers to press [s].
        speed: 0..1, share of the fastest motion within the limits.
    """

    effector: str | tuple[str, ...]
    closing: float | tuple[float, ...]
    wait: float = 0.25
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Holds still.

    Attributes:
        duration: [s].
    """

    duration: float


@dataclass(frozen=True, slots=True)
class Barrier:
    """Waits until every track that has this barrier stands at it.

    Attributes:
        name: unique in the script.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Goes back if a condition does not hold: a failed grasp is tried again.

    Attributes:
        unless: what must hold to go on.
        back: steps to go back.
        times: how often at most; after that the script goes on.
    """

    unless: Criterion
    back: int
    times: int = 2


Step = Move | Grip | Pause | Barrier | Retry
Script = Mapping[str, tuple[Step, ...]]
"""Track -> its steps. Tracks run side by side; two of them must not move the same joints at one time."""


def effectors_of(step: Step) -> tuple[str, ...]:
    """Return the effectors whose joints a step moves."""
    if isinstance(step, Move):
        return tuple(step.goals)
    if isinstance(step, Grip):
        return (step.effector,) if isinstance(step.effector, str) else step.effector
    return ()
