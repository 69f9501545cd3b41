# SPDX-License-Identifier: Apache-2.0
"""What can move the robot in a roll-out: an expert, or anything that maps observations to action chunks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_S
from wam.core.errors import PolicyFault
from wam.core.observation import Observation, index_of
from wam.core.trajectory.follower import Follower
from wam.core.trajectory.spline import sample
from wam.robots.description import RobotDescription
from wam.sim.experts.expert import Expert
from wam.sim.port import JointTargets
from wam.sim.rollout import COMMAND_PERIOD_NS, Episode

Vector = npt.NDArray[np.float64]

ChunkPolicy = Callable[[Observation, str], ActionChunk]
"""Observation and instruction -> chunk whose row 0 is due at the observation's stamp."""


class ExpertActor:
    """Lets an expert act.

    Args:
        make: makes the expert of an episode, since its script depends on the variant.
    """

    def __init__(self, make: Callable[[Episode], Expert]) -> None:
        self._make = make
        self._expert: Expert | None = None

    @property
    def done(self) -> bool:
        """Whether the expert has finished."""
        return self._expert is not None and self._expert.done

    def begin(self, episode: Episode) -> None:
        """Make the expert and start it."""
        self._expert = self._make(episode)
        self._expert.begin(episode.world)

    def act(self, episode: Episode, *, due: float) -> JointTargets:
        """Return the expert's targets for `due` [s]."""
        assert self._expert is not None
        return self._expert.act(episode.world, due=due)


class ChunkActor:
    """Lets a policy act in chunks, without latency: requests the next when `execute` rows of the last chunk are due.

    Rows are joined by a spline and followed within the robot file's limits, as the command stream does on a robot.

    Args:
        policy: the policy.
        robot: the robot that it moves.
        execute: rows of a chunk that are executed before the next one is asked for.

    Raises:
        ValueError: `execute` is not positive.
    """

    done = False

    def __init__(self, policy: ChunkPolicy, robot: RobotDescription, *, execute: int) -> None:
        if execute < 1:
            raise ValueError(f"execute is {execute} rows, must be positive")
        self._policy, self._robot, self._execute = policy, robot, execute
        self._period = COMMAND_PERIOD_NS / NS_PER_S
        self._limits = robot.limits()
        self._chunk: ActionChunk | None = None
        self._columns = np.empty(0, dtype=np.intp)

    def begin(self, episode: Episode) -> None:
        """Forget the last episode."""
        home = episode.world.positions()
        self._follower = Follower(self._limits, period=self._period, position=home)
        self._still = home.copy()
        self._chunk = None

    def act(self, episode: Episode, *, due: float) -> JointTargets:
        """Return the targets for `due` [s].

        Raises:
            PolicyFault: a row is not finite.
            JointError: the chunk names joints that the robot does not have.
        """
        due_ns = round(due * NS_PER_S)
        chunk = self._chunk
        if chunk is None or due_ns >= chunk.stamp_ns + self._execute * chunk.row_period_ns:
            chunk = self._ask(episode)
        at = (due_ns - chunk.stamp_ns) / chunk.row_period_ns
        step = COMMAND_PERIOD_NS / chunk.row_period_ns
        window = sample(chunk.rows, np.array([at - 2 * step, at - step, at]))
        positions, velocities, accelerations = (self._still.copy(), *np.zeros((2, len(self._still))))
        positions[self._columns] = window[2]
        velocities[self._columns] = (window[2] - window[1]) / self._period
        accelerations[self._columns] = (window[2] - 2 * window[1] + window[0]) / self._period**2
        followed = self._follower.step(positions, velocities, accelerations)
        return JointTargets(followed.copy(), self._follower.velocity.copy())

    def _ask(self, episode: Episode) -> ActionChunk:
        chunk = self._policy(episode.observe(), episode.instruction)
        if not np.isfinite(chunk.rows).all():
            raise PolicyFault(f"the policy returned a non-finite chunk at {chunk.stamp_ns / NS_PER_S:.2f} s")
        self._columns = index_of(self._robot.joint_names, chunk.joint_names, what=f"robot {self._robot.name}")
        self._chunk = chunk
        return chunk
