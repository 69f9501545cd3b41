# SPDX-License-Identifier: Apache-2.0
"""Actions of a simulated gripper: goals that block, one after the other."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.task import Future

from wam.devices.optional import Find
from wam.devices.simulated import GoalActions, GoalTwin
from wam.devices.twin import DriverAnswer
from wam.robots.description import JointGroup
from wam.sim.cycle import SimCycle

POLL_PERIOD_S = 0.02


class GripperActions:
    """Action servers of one gripper; everything runs in the thread of the node's rclpy executor.

    Args:
        node: owns the servers.
        group: the gripper's joint group.
        cycle: moves its twin.
        find: returns the actions' types; an action without one is not offered.
        actions: names, types and messages.
    """

    def __init__(
        self, node: Any, group: JointGroup, cycle: SimCycle, find: Find, actions: GoalActions
    ) -> None:
        self._node, self._group, self._cycle, self._actions = node, group, cycle, actions
        self._queue: deque[tuple[Any, Any]] = deque()
        self._running: Any = None
        self._servers: list[Any] = []
        for name, key in actions.types.items():
            found = find(key)
            if found is not None:
                topic = f"{actions.folder}/{name}" if actions.folder else name
                execute = partial(self._execute, name, found)
                self._servers.append(ActionServer(node, found, topic, execute, cancel_callback=self._cancel))
        self._timer = node.create_timer(POLL_PERIOD_S, self._poll) if self._servers else None

    @property
    def _driver(self) -> GoalTwin[Any]:
        driver = self._cycle.driver(self._group.name)
        assert isinstance(driver, GoalTwin)
        return driver

    def stop(self) -> DriverAnswer:
        """Hold the fingers where they are and end the goal."""
        with self._cycle.exclusive():
            answer = self._driver.stop(self._cycle.measured(self._group.name).positions)
        self._end(DriverAnswer(False, "stopped"))
        return answer

    def close(self) -> None:
        """Remove the servers."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        for server in self._servers:
            server.destroy()
        self._servers = []

    async def _execute(self, name: str, types: Any, handle: Any) -> Any:
        future: Any = Future()
        self._queue.append((self._actions.read(name, handle.request), future))
        answer = await future
        if handle.is_cancel_requested:
            handle.canceled()
        elif answer.ok:
            handle.succeed()
        else:
            handle.abort()
        result = types.Result()
        with self._cycle.exclusive():
            measured = self._cycle.measured(self._group.name)
        self._actions.fill(result, answer, measured)
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

    def _end(self, answer: DriverAnswer) -> None:
        future, self._running = self._running, None
        if future is not None:
            future.set_result(answer)
