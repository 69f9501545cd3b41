# SPDX-License-Identifier: Apache-2.0
"""Actions of franka_gripper: goals that block, one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.task import Future

from wam.devices.franka.twin import GoalKind, GripperDriver, GripperGoal
from wam.devices.twin import Answer
from wam.robots.description import JointGroup
from wam.sim.cycle import SimCycle
from wam_sim_node.vendor import Vendor

POLL_PERIOD_S = 0.02

TYPES: Mapping[GoalKind, str] = {
    GoalKind.MOVE: "franka_move",
    GoalKind.GRASP: "franka_grasp",
    GoalKind.HOMING: "franka_homing",
    GoalKind.GRIPPER_ACTION: "gripper_command",
}
"""Action -> our name of its type."""


def read_goal(kind: GoalKind, message: Any) -> GripperGoal:
    """Return the goal of an action's message.

    GripperCommand counts in half the opening, the others in the whole; its force is that of a grasp.
    """
    if kind is GoalKind.GRIPPER_ACTION:
        command = message.command
        return GripperGoal(kind, 2.0 * float(command.position), force=float(command.max_effort))
    if kind is GoalKind.HOMING:
        return GripperGoal(kind)
    width, speed = float(message.width), float(message.speed)
    if kind is GoalKind.MOVE:
        return GripperGoal(kind, width, speed)
    inner, outer = float(message.epsilon.inner), float(message.epsilon.outer)
    return GripperGoal(kind, width, speed, float(message.force), inner, outer)


class GripperActions:
    """Action servers of one gripper; everything runs in the thread of the node's rclpy executor.

    Args:
        node: owns the servers.
        group: the gripper's joint group.
        cycle: moves its twin.
        vendor: finds the actions' types; an action without one is not offered.
        folder: namespace of the gripper's node, or "".
        read: reads a goal.
    """

    def __init__(
        self,
        node: Any,
        group: JointGroup,
        cycle: SimCycle,
        vendor: Vendor,
        *,
        folder: str,
        read: Callable[[GoalKind, Any], GripperGoal] | None = None,
    ) -> None:
        self._node, self._group, self._cycle = node, group, cycle
        self._read = read or read_goal
        self._queue: deque[tuple[GripperGoal, Any]] = deque()
        self._running: Any = None
        self._servers = []
        for kind, name in TYPES.items():
            found = vendor(name)
            if found is not None:
                topic = f"{folder}/{kind.value}" if folder else kind.value
                self._servers.append(
                    ActionServer(
                        node, found, topic, partial(self._execute, kind, found), cancel_callback=self._cancel
                    )
                )
        self._timer = node.create_timer(POLL_PERIOD_S, self._poll) if self._servers else None

    @property
    def _driver(self) -> GripperDriver:
        driver = self._cycle.driver(self._group.name)
        assert isinstance(driver, GripperDriver)
        return driver

    def stop(self) -> Answer:
        """Hold the fingers where they are and end the goal."""
        with self._cycle.exclusive():
            answer = self._driver.stop(self._cycle.measured(self._group.name).positions)
        self._end(Answer(False, "stopped"))
        return answer

    def close(self) -> None:
        """Remove the servers."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        for server in self._servers:
            server.destroy()
        self._servers = []

    async def _execute(self, kind: GoalKind, types: Any, handle: Any) -> Any:
        future: Any = Future()
        self._queue.append((self._read(kind, handle.request), future))
        answer = await future
        if handle.is_cancel_requested:
            handle.canceled()
        elif answer.ok:
            handle.succeed()
        else:
            handle.abort()
        result = types.Result()
        with self._cycle.exclusive():
            opening = 2.0 * float(self._cycle.measured(self._group.name).positions[0])
        told = {"success": answer.ok, "error": "" if answer.ok else answer.text}
        # GripperCommand counts in half the opening in its goal and in the whole in its result.
        told |= {"position": opening, "reached_goal": answer.ok, "stalled": not answer.ok}
        for field, value in told.items():
            if hasattr(result, field):
                setattr(result, field, value)
        return result

    def _cancel(self, _handle: Any) -> Any:
        self.stop()
        return CancelResponse.ACCEPT

    def _poll(self) -> None:
        if self._running is not None:
            with self._cycle.exclusive():
                answer = self._driver.result(self._cycle.measured(self._group.name))
            if answer is not None:
                self._end(answer)
        if self._running is None and self._queue:
            goal, future = self._queue.popleft()
            with self._cycle.exclusive():
                started = self._driver.start(goal)
            if started.ok:
                self._running = future
            else:
                future.set_result(started)

    def _end(self, answer: Answer) -> None:
        future, self._running = self._running, None
        if future is not None:
            future.set_result(answer)
