# SPDX-License-Identifier: Apache-2.0
"""The target of a task slides aside while the arm is on its way to it: what a plan that is not renewed misses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.sim.scene import Placement, Region, SceneObject

Vector = npt.NDArray[np.float64]

DISTANCE = (0.05, 0.08)
"""How far a target slides [m]."""

DELAY = (0.2, 0.8)
"""Time between the first stage and the beginning of the slide [s]."""

DURATION = 0.5
"""Of the slide [s]; the peak speed is 1.9 times the mean one."""

TRIES = 400


@dataclass(frozen=True, slots=True)
class Sliding:
    """Which object slides, and how far it may.

    Attributes:
        item: the object; nothing stands in or on it before the last stage.
        region: where the centre of its foot may come to be [m], in the world.
    """

    item: str
    region: Region


@dataclass(frozen=True, slots=True)
class Slide:
    """The slide of one episode.

    Attributes:
        item: the object.
        shift: horizontal, float64 [2] [m].
        delay: after the first stage [s].
    """

    item: str
    shift: Vector
    delay: float

    def share(self, since: float) -> float:
        """Return the share of the shift that is done `since` seconds after the first stage, 0 to 1, minimum jerk."""
        s = min(max((since - self.delay) / DURATION, 0.0), 1.0)
        return s**3 * (10.0 - 15.0 * s + 6.0 * s**2)


def plan_slide(
    sliding: Sliding, placed: dict[str, Placement], items: dict[str, SceneObject], *, seed: int
) -> Slide:
    """Return where the target of an episode slides to; on its way it touches nothing.

    Args:
        sliding: of the task.
        placed: object name -> where it stands.
        items: object name -> object.
        seed: of the episode.

    Raises:
        ValueError: there is no room for it.
    """
    # A stream of its own: places and look do not depend on it.
    rng = np.random.default_rng([seed, 2])
    start = placed[sliding.item]
    others = [
        (math.hypot(place.x - start.x, place.y - start.y), place, items[name].footprint)
        for name, place in placed.items()
        if name != sliding.item
    ]
    delay = rng.uniform(*DELAY)
    for _ in range(TRIES):
        distance, angle = rng.uniform(*DISTANCE), rng.uniform(-math.pi, math.pi)
        shift = distance * np.array([math.cos(angle), math.sin(angle)])
        x, y = start.x + shift[0], start.y + shift[1]
        region = sliding.region
        inside = region.x_min <= x <= region.x_max and region.y_min <= y <= region.y_max
        if inside and all(
            _nearest(start, shift, place) >= min(before, items[sliding.item].footprint + footprint) - 1e-9
            for before, place, footprint in others
        ):
            return Slide(sliding.item, shift, delay)
    raise ValueError(f"seed {seed}: {sliding.item} has no room to slide by {DISTANCE} m in {sliding.region}")


def _nearest(start: Placement, shift: Vector, other: Placement) -> float:
    """Return the least distance of the two centres while one of them slides [m]."""
    towards = np.array([other.x - start.x, other.y - start.y])
    share = min(max(float(towards @ shift) / float(shift @ shift), 0.0), 1.0)
    return float(np.linalg.norm(towards - share * shift))
