# SPDX-License-Identifier: Apache-2.0
"""An episode whose loop is the caller's: one row of joint targets in, the next frame out.

    rollout    the world asks an actor every 10 ms
    stepped    a learner's own loop (gymnasium, LeRobot) hands in one row per frame

Frames, drivers and the time of a command are those of `wam.sim.rollout`, so what is seen here is what a recording of
the same seed shows. No planner, no executor and NO safety layer is between a row and the drivers: for simulation only.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.errors import JointError
from wam.core.observation import Observation
from wam.core.safety.limits import JointLimits
from wam.sim.port import JointTargets, RobotPort
from wam.sim.rendering import CameraRenderer
from wam.sim.rollout import COMMAND_PERIOD_NS, Episode, RolloutOptions, find_camera, frame_time_ns
from wam.sim.tasks.world import TaskWorld
from wam.sim.world import WorldDiverged

Vector = npt.NDArray[np.float64]

SAME = 1e-6
"""A row that is moved by less is not called limited: data sets store float32 [rad or m]."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one row of targets led to.

    Attributes:
        observation: joint state, images and ground truth one frame later.
        progress: stages reached so far, 0 to 3: the score.
        gained: stages reached in this frame.
        success: whether the last stage has been reached.
        out_of_time: whether the time limit has come without success.
        limited: whether the row was beyond a limit of the robot and was followed only as far as that allows.
        error: why the episode cannot go on (the physics diverged), or "".
    """

    observation: Observation
    progress: int
    gained: int
    success: bool
    out_of_time: bool
    limited: bool
    error: str = ""


class SteppedEpisode:
    """Plays one episode after another, frame by frame. One thread at a time.

    Args:
        world: the task's world; `reset` resets it.
        options: rate of the frames, cameras, time limit and quality; None takes frames without images.

    Raises:
        ConfigError: a camera is not the robot's.
        ValueError: kicks are asked for; there is no expert whose path they could leave.
    """

    def __init__(self, world: TaskWorld, options: RolloutOptions | None = None) -> None:
        self._world = world
        self._options = options or RolloutOptions()
        if self._options.kicks:
            raise ValueError("kicks are for recordings of an expert")
        self._cameras = [find_camera(world.robot, name) for name in self._options.cameras]
        self._limits = world.robot.limits()
        self._step_ns = round(world.timestep * NS_PER_S)
        self._stack = ExitStack()
        self._episode: Episode | None = None

    @property
    def world(self) -> TaskWorld:
        """The world."""
        return self._world

    @property
    def rows(self) -> int:
        """How many rows an episode takes until its time limit."""
        limit = self._options.time_limit
        limit = self._world.task.time_limit if limit is None else limit
        return max(1, math.ceil(limit * self._options.frame_rate - SAME))

    def reset(self, seed: int) -> Observation:
        """Begin the episode of `seed` and return its first frame.

        Raises:
            MissingDependency: images are asked for and cannot be rendered here.
        """
        self.close()
        renderers = []
        for camera in self._cameras:
            # Made anew: textures and lights are the seed's, and a renderer keeps those that it began with.
            renderer = CameraRenderer(self._world.model, camera, quality=self._options.quality)
            self._stack.callback(renderer.close)
            renderers.append(renderer)
        self._world.reset(seed)
        self._episode = Episode(self._world, renderers)
        self._port = RobotPort(self._world)
        self._targets = self._world.positions()
        self._ticks = self._frames = 0
        return self._episode.observe()

    def step(self, targets: Vector) -> Stepped:
        """Move the targets in force evenly to `targets`, and return the next frame, at which they are reached.

        Args:
            targets: float64 [N], of all joints in the robot's order [rad or m].

        Raises:
            JointError: there are not as many as joints, or one is not finite; nothing was commanded.
            RuntimeError: `reset` has not been called.
        """
        if self._episode is None:
            raise RuntimeError("no episode has begun: call reset first")
        begin_ns, end_ns = self._frame_ns(self._frames), self._frame_ns(self._frames + 1)
        allowed = allowed_targets(
            targets, start=self._targets, limits=self._limits, time=(end_ns - begin_ns) / NS_PER_S
        )
        before, error = self._world.progress(), ""
        try:
            self._follow(self._targets, allowed, begin_ns, end_ns)
        except WorldDiverged as fault:
            error = str(fault)
        self._targets = allowed
        self._frames += 1
        success = self._world.success() and not error
        return Stepped(
            observation=self._episode.observe(),
            progress=self._world.progress(),
            gained=self._world.progress() - before,
            success=success,
            out_of_time=self._frames >= self.rows and not success,
            limited=bool(np.any(np.abs(allowed - targets) > SAME)),
            error=error,
        )

    def close(self) -> None:
        """Free the renderers; safe to call twice. `reset` begins again."""
        self._stack.close()
        self._stack = ExitStack()
        self._episode = None

    def _frame_ns(self, index: int) -> int:
        return frame_time_ns(index, rate=self._options.frame_rate, step_ns=self._step_ns)

    def _follow(self, start: Vector, end: Vector, begin_ns: int, end_ns: int) -> None:
        """Command the way from `start` to `end` every `COMMAND_PERIOD_NS`, and let the world go on to `end_ns`."""
        way, length_ns = end - start, end_ns - begin_ns
        velocities = way / length_ns * NS_PER_S
        while (now_ns := self._port.now_ns) < end_ns:
            if now_ns >= self._ticks * COMMAND_PERIOD_NS:
                self._ticks += 1
                share = min(1.0, (self._ticks * COMMAND_PERIOD_NS - begin_ns) / length_ns)
                self._port.command(
                    JointTargets(start + share * way, velocities.copy()), period_ns=COMMAND_PERIOD_NS
                )
            self._port.advance(min(self._ticks * COMMAND_PERIOD_NS, end_ns) - now_ns)


def allowed_targets(targets: Vector, *, start: Vector, limits: JointLimits, time: float) -> Vector:
    """Return the targets nearest to `targets` that are within the position limits and can be reached in `time`.

    Args:
        targets: float64 [N] [rad or m].
        start: float64 [N], targets in force.
        limits: of the N joints, position-dependent velocity limits included.
        time: until the targets are due [s].

    Raises:
        JointError: `targets` has another width, or a value is not finite.
    """
    names = limits.joint_names
    if targets.shape != (len(names),):
        raise JointError(
            "an action has another width than the robot",
            value=list(targets.shape),
            allowed=f"one row of {len(names)} positions ({', '.join(names)})",
            where="the policy's action, or the task that it is played on",
        )
    if not np.all(np.isfinite(targets)):
        wrong = [name for name, value in zip(names, targets, strict=True) if not np.isfinite(value)]
        raise JointError(
            "an action is not finite",
            value=", ".join(wrong),
            allowed="finite positions",
            where="the policy's action",
        )
    fastest, slowest = limits.velocity, -limits.velocity
    if limits.velocity_envelope is not None:
        up, down = limits.velocity_envelope.bounds(start)
        fastest, slowest = np.minimum(fastest, up), np.maximum(slowest, down)
    inside = np.clip(targets, limits.lower, limits.upper)
    return np.clip(inside, start + slowest * time, start + fastest * time)
