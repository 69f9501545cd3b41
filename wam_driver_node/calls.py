# SPDX-License-Identifier: Apache-2.0
"""Carries out the steps of a recovery: calls of the vendors' services and actions, each with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from wam.devices.optional import VENDOR_TYPES, find_type
from wam.devices.state import ListCheck, Recovery, Step, StepKind
from wam.ros.action_client import SpunActionClient
from wam.ros.timers import steady_timer

FIND_S = 3.0
"""Longest wait for a service or action to be discovered [s]."""
LIST_S = 5.0
"""Longest wait for a list of the driver [s]."""
POLL_S = 0.02
NOTHING_TO_DO = "it is so already"
OWN_SERVICES = "wam_safety/"
"""Re-arming the command stream is never part of a recovery: a person checks first."""


def fill_request(message: Any, values: Mapping[str, object]) -> Any:
    """Write `values` into a request or goal and return it; a dot in a name leads into a nested message."""
    for name, value in values.items():
        *path, field = name.split(".")
        place = message
        for part in path:
            place = getattr(place, part)
        setattr(place, field, value)
    return message


def read_answer(answer: Any) -> tuple[bool, str]:
    """Return whether a response or result reports success, and its text.

    std_srvs and the UR dashboard have `success`, controller_manager `ok`, piper_ros `enable_response`; a type without
    any of them can only fail by the status of its goal.
    """
    for name in ("success", "ok", "enable_response"):
        if hasattr(answer, name):
            return bool(getattr(answer, name)), str(getattr(answer, "message", ""))
    return True, str(getattr(answer, "message", ""))


class StepCaller:
    """Carries out steps. Its coroutines run in the rclpy executor of `node` without blocking it.

    Callbacks that await one of them belong in the callback group `group`.

    Args:
        node: owns clients and timers.
        find: returns a type of `VENDOR_TYPES`, or None where its package is not installed.
        fill: writes a step's values into a request or goal.
        read: returns success and text of a response or result.
    """

    def __init__(
        self,
        node: Node,
        *,
        find: Callable[[str], Any | None] = find_type,
        fill: Callable[[Any, Mapping[str, object]], Any] = fill_request,
        read: Callable[[Any], tuple[bool, str]] = read_answer,
    ) -> None:
        self._node, self._find, self._fill, self._read = node, find, fill, read
        # A waiting coroutine occupies its group: in the default group it would wait for callbacks that cannot run.
        self.group = ReentrantCallbackGroup()

    async def recover(
        self, steps: Sequence[Step], *, folder: str = "", may_move: bool = False
    ) -> tuple[bool, str]:
        """Carry out the machine's steps in order, up to the first one that fails or that may not be done.

        A person's steps count as done: whoever calls a recovery has checked. Re-arming the safety node is left out.

        Args:
            steps: of the device's state.
            folder: namespace of the driver, relative; "" for none.
            may_move: whether steps may be carried out during which the robot may move or sink.

        Returns:
            Whether every machine step was performed, and a sentence on what was done and what remains.
        """
        walk, done, left = Recovery(steps), [], ""
        log = self._node.get_logger()
        while (step := walk.current) is not None:
            if step.kind is StepKind.PERSON:
                walk.done(True)
            elif step.name.startswith(OWN_SERVICES):
                left = f"; to be done by hand: {step.text} ({step.name})"
                walk.done(True)
            elif step.moves and not may_move:
                walk.done(False, "the robot may move or sink; do this by hand, or set recover_moving")
            else:
                log.info(f"recovery: {step.text} (at most {step.limit_s:g} s)")
                ok, text = await self.perform(step, folder=folder)
                done += [step.text] if ok and text != NOTHING_TO_DO else []
                walk.done(ok, text)
        text = f"done: {', '.join(done) or 'nothing'}"
        if walk.succeeded:
            return True, text + left
        log.error(f"recovery: {walk.failure}")
        rest = [step.text for step in walk.rest if step.kind is not StepKind.PERSON]
        after = f"; then: {', '.join(rest)}" if rest else ""
        return False, f"{text}; {walk.failure}{after}"

    async def perform(self, step: Step, *, folder: str = "") -> tuple[bool, str]:
        """Carry out a step unless its check holds already, and look whether it holds then.

        Returns:
            Whether what the step is for is so, and what shows otherwise; `NOTHING_TO_DO` where it was so before.
        """
        if step.check is None:
            return await self.carry_out(step, folder=folder)
        asked, shown = await self.look(step.check, folder=folder)
        if not asked or not shown:
            return asked, shown or NOTHING_TO_DO
        _, answer = await self.carry_out(step, folder=folder)
        asked, shown = await self.look(step.check, folder=folder)
        return asked and not shown, "; ".join(text for text in (answer, shown) if text)

    async def look(self, check: ListCheck, *, folder: str = "") -> tuple[bool, str]:
        """Return whether the driver showed its list, and what is not as wanted in it; or why it did not."""
        kind = self._find(check.type)
        if kind is None:
            return False, f"{VENDOR_TYPES[check.type][0]} is not installed in this environment"
        name = f"{folder}/{check.name}" if folder else check.name
        answer, why = await self._ask(kind, name, {}, LIST_S)
        return (False, why) if answer is None else (True, check.unmet(answer))

    async def carry_out(self, step: Step, *, folder: str = "") -> tuple[bool, str]:
        """Make the call of one step; return whether it succeeded, and the reason if not."""
        kind = self._find(step.type)
        if kind is None:
            return False, f"{VENDOR_TYPES[step.type][0]} is not installed in this environment"
        name = f"{folder}/{step.name}" if folder else step.name
        act = self._act if step.kind is StepKind.ACTION else self._call
        return await act(kind, name, dict(step.values), step.limit_s)

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for `condition` in the executor; return whether it came true in time."""
        passed: Future[bool] = Future()
        end = time.monotonic() + seconds

        def look() -> None:
            if passed.done():
                return
            if condition():
                passed.set_result(True)
            elif time.monotonic() >= end:
                passed.set_result(False)

        timer = steady_timer(self._node, POLL_S, look, callback_group=self.group)
        try:
            return bool(await passed)
        finally:
            self._node.destroy_timer(timer)

    async def _call(
        self, kind: Any, name: str, values: Mapping[str, object], limit_s: float
    ) -> tuple[bool, str]:
        answer, why = await self._ask(kind, name, values, limit_s)
        return (False, why) if answer is None else self._read(answer)

    async def _ask(
        self, kind: Any, name: str, values: Mapping[str, object], limit_s: float
    ) -> tuple[Any | None, str]:
        """Return a service's response, or None and why there is none."""
        client: Any = self._node.create_client(kind, name, callback_group=self.group)
        try:
            if not await self.until(client.service_is_ready, FIND_S):
                return None, f"no server offers the service {name}"
            future = client.call_async(self._fill(kind.Request(), values))
            if not await self.until(future.done, limit_s):
                client.remove_pending_request(future)
                return None, f"no answer from {name} within {limit_s:g} s"
            return future.result(), ""
        finally:
            self._node.destroy_client(client)

    async def _act(
        self, kind: Any, name: str, values: Mapping[str, object], limit_s: float
    ) -> tuple[bool, str]:
        client: Any = SpunActionClient(self._node, kind, name, callback_group=self.group)
        try:
            if not await self.until(client.server_is_ready, FIND_S):
                return False, f"no server offers the action {name}"
            sent = client.send_goal_async(self._fill(kind.Goal(), values))
            if not await self.until(sent.done, limit_s):
                return False, f"no answer from {name} within {limit_s:g} s"
            if not sent.result().accepted:
                return False, f"{name} refused the goal"
            ended = sent.result().get_result_async()
            if not await self.until(ended.done, limit_s):
                return False, f"{name} did not end within {limit_s:g} s"
            answer = ended.result()
            ok, text = self._read(answer.result)
            succeeded = answer.status == GoalStatus.STATUS_SUCCEEDED
            return succeeded and ok, text or f"{name} ended with status {answer.status}"
        finally:
            client.destroy()
