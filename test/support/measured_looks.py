# SPDX-License-Identifier: Apache-2.0
"""Looks at a measured arm that was pushed, sags or lags, against own distances and own places of its tool.

`python test/support/measured_looks.py --count 300` looks that often at each robot.
"""

from __future__ import annotations

import argparse
import functools
from collections import Counter

import numpy as np
import numpy.typing as npt
from motion import target
from tool_speed import ToolSpeedJudge

from wam.bench.attack.contacts import geometry_of
from wam.robots.measured_check import MeasuredCheck
from wam.robots.zones import parse_box
from wam.runtime.safety.filters import ChainOptions, FilterInputs

Rows = npt.NDArray[np.float64]

ROBOTS = ("piper", "franka", "ur5e_inspire")
DEEPER, FURTHER = 0.002, 0.01
"""What docs/explanation/execution-and-safety.md allows beyond any recent command [m]."""
BAND = 1e-4
"""Around these nothing is decided [m]."""


@functools.cache
def _made(robot: str) -> tuple[FilterInputs, ToolSpeedJudge]:
    own = target(robot).robot
    return FilterInputs(own, ChainOptions()), ToolSpeedJudge(own.source)


def look(robot: str, seed: int) -> str:
    """Return what one case was, or what is wrong with it, beginning with "wrong"."""
    aim, (inputs, tools) = target(robot), _made(robot)
    geometry, judged = geometry_of(aim), aim.judged
    points, checker = inputs.points, inputs.checker
    assert points is not None
    assert checker is not None
    rng = np.random.default_rng((seed, 11))
    commands, towards = _commands(robot, rng)
    push = rng.normal(0.0, float(rng.choice([0.0, 1e-3, 5e-3, 0.02])), len(aim.home)) * aim.arm
    push += float(rng.choice([0.0, 5e-3, 0.015, 0.03, 0.06])) * towards
    measured = np.clip(commands[int(rng.integers(len(commands)))] + push, judged.lower, judged.upper)
    group = next(one for one in aim.robot.groups if one.tip_link)
    frame = tools._model.frames[tools._model.getFrameId(group.base_link)].placement
    at = (tools.places(np.concatenate((commands, measured[None])))[0] - frame.translation) @ frame.rotation
    sides = rng.uniform(-0.01, 0.06, (2, 3)) * np.array([[-1.0], [1.0]])
    box = np.sort(at[0] + sides + np.array([[-1e-3], [1e-3]]), axis=0)
    text = " ".join(f"{box[0, axis]} {box[1, axis]}" for axis in range(3))
    boxes = (parse_box(f"{group.name} {text}", points),) if rng.random() < 0.5 else ()
    deeper = np.minimum(
        np.min([geometry.distances(one) for one in commands], axis=0), 0.0
    ) - geometry.distances(measured)
    outside = np.maximum(box[0] - at, at - box[1]).max(axis=1)
    further = float(outside[-1] - max(outside[:-1].max(), 0.0)) if boxes else -1.0
    over = max(float(deeper.max()) - DEEPER, further - FURTHER)
    check = MeasuredCheck(checker, points, boxes=boxes)
    first, second = check.look(measured, commands), check.look(measured, commands)
    if first is not None:
        return "wrong: found at the first look"
    if abs(over) < BAND:
        return "undecided"
    if (second is not None) != (over > 0.0):
        return f"wrong: {over * 1e3:.2f} mm beyond what is allowed, found {second}"
    return "free" if second is None else second.code


def _commands(robot: str, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return some recent commands, float64 [6, N], that end near or in a contact, and the way into it, float64 [N]."""
    aim = target(robot)
    geometry, judged = geometry_of(aim), aim.judged
    start = np.clip(aim.home + rng.normal(0.0, 0.2, len(aim.home)) * aim.arm, judged.lower, judged.upper)
    goal = start
    for _ in range(60):
        goal = np.clip(start + rng.uniform(-1.2, 1.2, len(start)) * aim.arm, judged.lower, judged.upper)
        if geometry.distances(goal).min() < -0.01:
            break
    low, high, wanted = 0.0, 1.0, float(rng.uniform(-0.006, 0.004))
    for _ in range(25):
        middle = 0.5 * (low + high)
        near = geometry.distances(start + middle * (goal - start)).min()
        low, high = (middle, high) if near > wanted else (low, middle)
    shares = low - np.arange(6)[:, None] * float(rng.choice([0.0, 1e-3, 5e-3]))
    return start + shares * (goal - start), (goal - start) / max(float(np.abs(goal - start).max()), 1e-9)


def main() -> None:
    """Look as often as is asked for."""
    parser = argparse.ArgumentParser(description="looks at measured arms")
    parser.add_argument("--count", type=int, default=100, help="cases per robot")
    count = parser.parse_args().count
    for robot in ROBOTS:
        print(robot, dict(Counter(look(robot, seed) for seed in range(count))))


if __name__ == "__main__":
    main()
