# SPDX-License-Identifier: Apache-2.0
"""`wam bench collision`: whole chunks of two arms checked per second, beside Pinocchio's own time per state."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from wam.bench import Announce
from wam.bench.result import Bar, BenchResult
from wam.core.safety.collision import MAX_STEP, thin_out
from wam.devices.loader import load_robot
from wam.robots.collision import PinocchioChecker

ROBOT = "piper"
CHUNKS = 1000
ROWS = 54
TICK_S = 0.01
BARS = {"collision_chunks_per_s": Bar(50.0, "min")}


def run(stage: Announce, *, chunks: int = CHUNKS, robot: str = ROBOT) -> BenchResult:
    """Check `chunks` random chunks at the robot's velocity limits, every state of each.

    Args:
        stage: called with what is being measured.
        chunks: chunks in all.
        robot: name of a robot file with a model.
    """
    stage(f"{chunks} chunks of {ROWS} rows")
    description = load_robot(robot)
    checker = PinocchioChecker(description)
    limits = description.limits()
    rng = np.random.default_rng(0)
    home = np.array([joint.home for joint in description.joints])
    steps = np.arange(ROWS)[:, None] * TICK_S
    motions: list[npt.NDArray[np.float64]] = []
    while len(motions) < chunks:
        start = home + rng.uniform(-0.2, 0.2, len(home)) * (limits.upper - limits.lower) * 0.2
        rows = np.clip(
            start + rng.uniform(-1, 1, len(home)) * limits.velocity * steps, limits.lower, limits.upper
        )
        if not any(checker.colliding(state) for state in thin_out(rows)):  # a contact would end a check early
            motions.append(rows)
    states, began = 0, time.process_time()
    for rows in motions:
        thinned = thin_out(rows, max_step=MAX_STEP)
        states += len(thinned)
        checker.check(thinned)
    ours = time.process_time() - began
    pin, kinematic, geometry = checker.pinocchio
    data, results = kinematic.createData(), pin.GeometryData(geometry)
    configurations = [checker.model.configuration(rows[k]) for rows in motions for k in range(0, ROWS, 9)]
    began = time.process_time()
    for q in configurations:
        pin.computeCollisions(kinematic, data, geometry, results, q, True)
    theirs = (time.process_time() - began) / len(configurations)
    results_ = {
        "collision_chunks_per_s": round(len(motions) / ours, 1),
        "collision_states_per_chunk": round(states / len(motions), 2),
        "collision_state_us": round(ours / states * 1e6, 2),
        "collision_pinocchio_state_us": round(theirs * 1e6, 2),
        "collision_pairs": float(len(checker.pairs)),
    }
    return BenchResult(results=results_, bars=BARS, notes=("per second of CPU time of one core",))
