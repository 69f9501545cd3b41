# SPDX-License-Identifier: Apache-2.0
"""Controls of an evaluation: policies that see nothing, beside which the success of one that does is read.

    still            keeps the robot where it stands at the start
    blind            plays what the expert did in another episode
    blind_same_text  the same, of an episode with the same task text: what there is to win without eyes

They go through the same cycles as a policy. Nodes do not know them, so that no robot is moved by them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_S
from wam.core.context import PlannerContext
from wam.core.contract import PolicyContract
from wam.core.errors import ConfigError
from wam.core.observation import Instruction, Observation, RobotState
from wam.core.policy import LoadedPolicy, RoutedContext
from wam.core.transport.numpy_codec import NumpyCodec
from wam.devices.twin import JointFeedback
from wam.policies.results import action_chunk, context_header
from wam.robots.description import RobotDescription
from wam.sim.actors import ExpertActor
from wam.sim.experts.registry import make_expert
from wam.sim.rollout import COMMAND_PERIOD_NS, Frame, RolloutOptions, rollout
from wam.sim.tasks.task import Setting, Task
from wam.sim.tasks.world import TaskWorld

STILL, BLIND, BLIND_SAME_TEXT = "still", "blind", "blind_same_text"
CONTROLS = (STILL, BLIND, BLIND_SAME_TEXT)

BLIND_FIRST = 1_000_000
"""Lowest seed that a blind control plays: no evaluation and no training set has it."""

BLIND_TRIES = 200
"""Seeds that it looks at for an episode that it can play."""

ROW_PERIOD_NS = NS_PER_S // 30
CHUNK_ROWS, HORIZON_ROWS = 30, 120

Rows = npt.NDArray[np.float64]
Payload = Mapping[str, npt.NDArray[Any]]


@runtime_checkable
class Rehearsing(Protocol):
    """Optional part of a `Planner` of an evaluation that is told which episode comes."""

    def rehearse(self, seed: int) -> None:
        """Take the seed of the episode that begins now."""
        ...


class RowsPolicy:
    """Both halves of a control: rows that are played from the first chunk on, whatever is observed. One thread.

    Args:
        contract: of the control.
        rows_of: seed -> the commands of an episode, float64 [K, N], `COMMAND_PERIOD_NS` apart; None keeps the first
            measured state.
    """

    def __init__(self, contract: PolicyContract, rows_of: Callable[[int], Rows] | None = None) -> None:
        self._contract, self._rows_of = contract, rows_of
        self._rows: Rows | None = None
        self._start_ns: int | None = None
        self._version = 0

    def rehearse(self, seed: int) -> None:
        """Take the rows of the episode of `seed`."""
        self._rows = None if self._rows_of is None else self._rows_of(seed)

    def reset(self) -> None:
        """Begin anew with the next chunk."""
        self._start_ns = None
        self._version = 0

    def plan(self, observation: Observation, *, instruction: Instruction) -> PlannerContext[Payload]:
        """Return an empty context."""
        self._version += 1
        header = context_header(
            self._contract,
            stamp_ns=observation.stamp_ns,
            instruction=instruction,
            version=self._version,
            started_ns=time.perf_counter_ns(),
        )
        return PlannerContext(header, {})

    def route(self, observation: Observation, *, context: PlannerContext[Payload]) -> RoutedContext[Payload]:
        """Return the context as it is."""
        return RoutedContext(context.header, observation.stamp_ns, context.payload)

    def act(self, routed: RoutedContext[Payload], *, proprio: RobotState) -> ActionChunk:
        """Return the rows that are due from the observation's stamp on; after the last row it is repeated."""
        contract = self._contract
        started_ns = time.perf_counter_ns()
        if self._start_ns is None:
            self._start_ns = routed.stamp_ns
            if self._rows_of is None:
                self._rows = proprio.select(contract.action_joints).positions[None]
        assert self._rows is not None
        times = routed.stamp_ns - self._start_ns + np.arange(contract.chunk_rows) * contract.control_period_ns
        at = np.arange(len(self._rows)) * COMMAND_PERIOD_NS
        return action_chunk(
            contract,
            routed,
            np.stack([np.interp(times, at, column) for column in self._rows.T], axis=1),
            proprio=proprio,
            offset_rows=routed.header.phase_offset_rows(routed.stamp_ns),
            started_ns=started_ns,
        )


class ExpertRows:
    """The commands of an expert that succeeds in another episode, played without images.

    Args:
        task: the task.
        setting: what it is set under.
        robot: the task's.
        same_text: take an episode with the same task text.
    """

    def __init__(
        self, task: Task, setting: Setting, robot: RobotDescription, *, same_text: bool = False
    ) -> None:
        self._same_text = same_text
        self._world = TaskWorld(task, setting=setting, robot=robot)

    def __call__(self, seed: int) -> Rows:
        """Return the commands of the episode that stands in for that of `seed`, float64 [K, N] [rad or m].

        Raises:
            ConfigError: none of the next seeds will do.
        """
        self._world.reset(seed)
        wanted = self._world.instruction
        # Drawn, since a fixed distance would always meet the same variant.
        first = int(np.random.default_rng(seed).integers(BLIND_FIRST, 2 * BLIND_FIRST))
        for other in range(first, first + BLIND_TRIES):
            self._world.reset(other)
            if self._same_text and self._world.instruction != wanted:
                continue
            commands = _Commands()
            actor = ExpertActor(lambda episode: make_expert(episode.world))
            options = RolloutOptions(frame_rate=1.0)
            if rollout(self._world, actor, seed=other, options=options, observers=(commands,)).success:
                return np.stack(commands.rows)
        raise ConfigError(
            "no expert's episode to play blindly",
            value=wanted,
            allowed=f"a task whose expert succeeds in one of {BLIND_TRIES} seeds, with this text for {BLIND_SAME_TEXT}",
            where="--policy",
        )


def control_policy(name: str, *, task: Task, setting: Setting, robot: RobotDescription) -> LoadedPolicy:
    """Return one of `CONTROLS`.

    Args:
        name: of the control.
        task: the task that it stands beside.
        setting: what the task is set under.
        robot: the task's.

    Raises:
        ConfigError: the task cannot be set so.
    """
    contract = PolicyContract(
        kind=name,
        contract_hash=hashlib.sha256(name.encode()).hexdigest(),
        cameras=(),
        state_joints=robot.joint_names,
        action_joints=robot.joint_names,
        control_period_ns=ROW_PERIOD_NS,
        chunk_rows=CHUNK_ROWS,
        horizon_rows=HORIZON_ROWS,
        instruction=task.text(task.variants[0]),
    )
    rows = None if name == STILL else ExpertRows(task, setting, robot, same_text=name == BLIND_SAME_TEXT)
    both = RowsPolicy(contract, rows)
    return LoadedPolicy(contract, both, both, NumpyCodec())


class _Commands:
    """Keeps what an expert commanded."""

    def __init__(self) -> None:
        self.rows: list[Rows] = []

    def on_tick(self, time_ns: int, feedback: Mapping[str, JointFeedback], command: Rows) -> None:
        self.rows.append(command)

    def on_frame(self, frame: Frame) -> None:
        pass
