# SPDX-License-Identifier: Apache-2.0
"""An expert that runs a script: it reads the world's ground truth and gives joint targets within the robot's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pinocchio

from wam.robots.kinematics import RobotModel
from wam.sim.experts.goals import Tool
from wam.sim.experts.kinematics import InverseKinematics
from wam.sim.experts.motion import TimedPath
from wam.sim.experts.script import Barrier, Effector, Grip, Move, Pause, Retry, Script, Step, effectors_of
from wam.sim.port import JointTargets
from wam.sim.tasks.view import Pose, WorldView

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

LINE_SPACING = 0.01
"""Distance of two poses on a straight line [m]."""

TURN_SPACING = 0.1
"""Largest turn between two poses on a straight line [rad]."""

ARRIVED = 0.01
"""A joint this close to its target has arrived [rad or m]."""

ARRIVAL_TIMEOUT = 0.5
"""Time after a motion's end after which the script goes on all the same [s]: an arm may be held by a contact."""


class Expert(Protocol):
    """Solves a task from ground truth. One thread at a time."""

    def begin(self, world: WorldView) -> None:
        """Start on the episode that `world` is at the beginning of."""
        ...

    def act(self, world: WorldView, *, due: float) -> JointTargets:
        """Return where the joints shall be at `due`, simulated time [s], not before `world.time`.

        Called at the rate of the commands, with `due` rising.

        Raises:
            Unreachable: the arm cannot reach a pose of the script.
        """
        ...

    @property
    def done(self) -> bool:
        """Whether the expert has finished; it then holds its last target."""
        ...


@dataclass
class _Track:
    """One track's place in its script.

    Attributes:
        steps: what it does.
        number: of the running step.
        started: when that step began [s].
        motion: its motion, or None.
        columns: joints of the robot that the motion moves.
        tries: Retry step -> how often it has gone back.
    """

    steps: Sequence[Step]
    number: int = 0
    started: float | None = None
    motion: TimedPath | None = None
    columns: npt.NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    tries: dict[int, int] = field(default_factory=dict)

    @property
    def step(self) -> Step | None:
        """The running step, or None at the end."""
        return self.steps[self.number] if self.number < len(self.steps) else None

    def go_on(self, to: int | None = None) -> None:
        """Take the next step, or step `to`."""
        self.number = self.number + 1 if to is None else to
        self.started = self.motion = None


class ScriptedExpert:
    """Plays a script; see `Expert`.

    Args:
        model: kinematics of the robot; experts of one thread may share it.
        effectors: its arms.
        script: tracks and their steps; effectors are named as in `effectors`.

    Raises:
        InputError: an effector names a link that the robot does not have.
        ValueError: a step names an unknown effector or joint.
    """

    def __init__(self, model: RobotModel, effectors: Sequence[Effector], script: Script) -> None:
        robot = model.robot
        self._limits = robot.limits()
        self._effectors = {one.name: one for one in effectors}
        self._script = script
        self._columns = {name: i for i, name in enumerate(robot.joint_names)}
        self._home = np.array([joint.home for joint in robot.joints])
        self._arms = {one.name: InverseKinematics(model, one.tool) for one in effectors}
        for track, steps in script.items():
            unknown = {name for step in steps for name in effectors_of(step)} - set(self._effectors)
            if unknown:
                raise ValueError(f"track {track} names {sorted(unknown)}, there are {list(self._effectors)}")
        for one in effectors:
            if not set(one.fingers) <= set(self._columns):
                raise ValueError(f"{one.name} has fingers {one.fingers}, the robot {list(self._columns)}")
        self._tracks: dict[str, _Track] = {}
        self._positions = self._home.copy()
        self._velocities = np.zeros_like(self._home)

    @property
    def done(self) -> bool:
        """Whether every track is at its end."""
        return all(track.step is None for track in self._tracks.values())

    def begin(self, world: WorldView) -> None:
        """Start the script from where the joints are."""
        self._positions = world.positions()
        self._velocities = np.zeros_like(self._positions)
        self._tracks = {name: _Track(steps) for name, steps in self._script.items()}

    def act(self, world: WorldView, *, due: float) -> JointTargets:
        """Return the targets for `due` [s]; see `Expert.act`."""
        self._velocities = np.zeros_like(self._positions)
        for track in self._tracks.values():
            self._play(track, world, due)
        return JointTargets(self._positions.copy(), self._velocities.copy())

    def _play(self, track: _Track, world: WorldView, due: float) -> None:
        """Run a track up to `due`; steps that take no time pass at once."""
        while (step := track.step) is not None:
            if track.started is None:
                track.started = due
                self._start(track, step, world)
            if track.motion is not None:
                positions, velocities = track.motion.at(due - track.started)
                self._positions[track.columns] = positions[track.columns]
                self._velocities[track.columns] = velocities[track.columns]
            if not self._finished(track, step, world, due):
                return
            if isinstance(step, Retry):
                self._decide(track, step, world)
            else:
                track.go_on()

    def _start(self, track: _Track, step: Step, world: WorldView) -> None:
        if isinstance(step, Move):
            rows, track.columns = self._path(step, world)
            track.motion = TimedPath(rows, self._limits, speed=step.speed)
        elif isinstance(step, Grip):
            target, track.columns = self._fingers(step)
            track.motion = TimedPath(np.stack([self._positions, target]), self._limits, speed=step.speed)

    def _finished(self, track: _Track, step: Step, world: WorldView, due: float) -> bool:
        assert track.started is not None
        passed = due - track.started
        if isinstance(step, Pause):
            return passed >= step.duration
        if isinstance(step, Barrier):
            return self._all_stand_at(step)
        if track.motion is None:
            return True
        over = passed - track.motion.duration
        if isinstance(step, Grip):
            return over >= step.wait
        away = np.abs(world.positions() - track.motion.end)[track.columns].max()
        return over >= 0.0 and (away < ARRIVED or over >= ARRIVAL_TIMEOUT)

    def _all_stand_at(self, barrier: Barrier) -> bool:
        """Return whether no track has the barrier still before it."""
        return all(
            barrier not in track.steps or track.steps.index(barrier) <= track.number
            for track in self._tracks.values()
        )

    def _decide(self, track: _Track, step: Retry, world: WorldView) -> None:
        tried = track.tries.get(track.number, 0)
        if step.unless.holds(world) or tried >= step.times:
            track.go_on()
            return
        track.tries[track.number] = tried + 1
        track.go_on(track.number - step.back)

    def _path(self, step: Move, world: WorldView) -> tuple[Rows, npt.NDArray[np.intp]]:
        """Return the path of a move, float64 [K, N], and the columns that it moves."""
        poses: dict[str, tuple[Pose, Pose]] = {}
        for name, goal in step.goals.items():
            arm = self._arms[name]
            here = arm.pose(self._positions)
            poses[name] = (here, goal.pose(world, Tool(arm.link, here)))
        columns = np.concatenate([self._arms[name].columns for name in poses])
        if not step.straight:
            target = self._positions
            for name, (_, there) in poses.items():
                target = self._arms[name].solve(there, target, weights=step.weights)
            return np.stack([self._positions, target]), columns
        count = max(_count(*both) for both in poses.values())
        rows = np.tile(self._positions, (count + 1, 1))
        first, last = next(iter(poses.values()))
        carrier = [_between(first, last, k / count) for k in range(1, count + 1)]
        for name, (here, there) in poses.items():
            arm = self._arms[name]
            between = [_between(here, there, k / count) for k in range(1, count + 1)]
            if step.rigid:
                between = [pose @ np.linalg.inv(first) @ here for pose in carrier]
            rows[1:, arm.columns] = arm.line(between, self._positions, weights=step.weights)[:, arm.columns]
        return rows, columns

    def _fingers(self, step: Grip) -> tuple[Vector, npt.NDArray[np.intp]]:
        target = self._positions.copy()
        moved: list[int] = []
        for one in (self._effectors[name] for name in effectors_of(step)):
            share = np.broadcast_to(np.asarray(step.closing, dtype=np.float64), (len(one.fingers),))
            columns = [self._columns[name] for name in one.fingers]
            target[columns] = (1.0 - share) * np.array(one.open) + share * np.array(one.closed)
            moved += columns
        return target, np.array(moved)


def _count(here: Pose, there: Pose) -> int:
    """Return into how many pieces a straight line is cut."""
    length = float(np.linalg.norm(there[:3, 3] - here[:3, 3]))
    return max(1, int(np.ceil(length / LINE_SPACING)), int(np.ceil(_angle(here, there) / TURN_SPACING)))


def _angle(here: Pose, there: Pose) -> float:
    cosine = (np.trace(here[:3, :3].T @ there[:3, :3]) - 1.0) / 2.0
    return float(np.arccos(np.clip(cosine, -1.0, 1.0)))


def _between(here: Pose, there: Pose, share: float) -> Pose:
    """Return the pose a share of the way along the line and the shortest turn."""
    turned = here[:3, :3] @ pinocchio.exp3(share * pinocchio.log3(here[:3, :3].T @ there[:3, :3]))
    pose = np.eye(4)
    pose[:3, :3] = turned
    pose[:3, 3] = (1.0 - share) * here[:3, 3] + share * there[:3, 3]
    return pose
