# SPDX-License-Identifier: Apache-2.0
"""What a person asks of the safety node: `~/clear_fault`, `~/resume`, `~/retreat`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future
from std_srvs.srv import Trigger

from wam.core.verdict import Finding
from wam.ros.lifecycle import WamNode
from wam.ros.lock_step import SteppedStream
from wam.runtime.safety.cycle import SafetyCycle
from wam.runtime.safety.mailbox import Retreated
from wam.runtime.safety.stream import CommandStream
from wam_safety_node.estop import EstopListener
from wam_safety_node.readiness import DeviceReadiness
from wam_safety_node.watch import GraphWatch

CLEAR_TIMEOUT_S = 0.5

RECENT_S = 5.0
"""A go is given for chunks that come: without one in this time the arm would start whenever the first one does [s]."""
AWAITING_GO = "awaiting_resume"
"""Cause of an arm that is held until somebody calls `~/resume`."""
GOING_BACK = "the arm is going back (~/retreat); call again when it stands"


class OperatorServices:
    """Serves the requests from `setup` to cleanup.

    Args:
        node: the safety node.
        cycle: what they are made to.
        stream: returns the command stream; None while the node is not active.
        watch: looks at the graph once more before a fault is cleared.
        estop: decides on the release of emergency stops.
        readiness: forgets that an arm did not follow.
    """

    def __init__(
        self,
        node: WamNode[Any],
        cycle: SafetyCycle,
        stream: Callable[[], CommandStream | SteppedStream | None],
        *,
        watch: GraphWatch,
        estop: EstopListener,
        readiness: DeviceReadiness,
    ) -> None:
        self._node = node
        self._cycle = cycle
        self._stream = stream
        self._watch = watch
        self._estop = estop
        self._readiness = readiness
        self._closed = False
        self._go_given = False
        self._cause = ""
        node.add_service(Trigger, "~/clear_fault", self._clear)
        node.add_service(Trigger, "~/resume", self._resume)
        # In the group of the other callbacks, joint states would wait until the arm stands again.
        node.add_service(Trigger, "~/retreat", self._retreat, callback_group=ReentrantCallbackGroup())

    def close(self) -> None:
        """Answer nobody any more: the services are about to be removed."""
        self._closed = True

    def _clear(self, _request: Any, response: Any) -> Any:
        cycle, ladder = self._cycle, self._cycle.ladder
        forgiven = self._readiness.forgive()
        if not ladder.stopped:
            taken = f"{', '.join(forgiven)}: taken to follow again; ~/resume lets it move" if forgiven else ""
            response.success, response.message = True, taken or "nothing was latched"
            return response
        if cycle.retreating:
            response.success, response.message = False, f"not cleared: {GOING_BACK}"
            return response
        self._watch.check()
        refusal = self._estop.release()
        if refusal:
            response.success, response.message = False, f"not cleared: {refusal}"
            return response
        cycle.clear_fault()
        self._wake()  # the clock does not come through while a service is served
        answered = cycle.answered.wait(CLEAR_TIMEOUT_S)
        response.success = answered and not ladder.stopped
        if response.success:
            response.message = (
                "cleared; the arm holds until the next valid chunk"
                if cycle.starts_by_itself
                else "cleared; the arm is held: ~/resume lets it move"
            )
        else:
            cause = ladder.cause
            still = "the command stream is not running" if cause is None or not answered else cause.text
            response.message = f"not cleared: {still}"
        return response

    def _resume(self, _request: Any, response: Any) -> Any:
        cycle = self._cycle
        active, waiting = self._stream() is not None, cycle.not_armed()
        ready = active and waiting is None and not cycle.ladder.stopped and not cycle.retreating
        response.success = ready and self._watch.chunk_age < RECENT_S
        if response.success:
            cycle.resume()
            self._go_given = True
            response.message = (
                "dry run: nothing is sent, nothing moves, and none of it needs a go"
                if self._node.p.dry_run
                else "the arm may move: slowly at first, with the next valid chunk"
            )
        elif ready:
            response.message = (
                f"not resumed: no chunk has come in the last {RECENT_S:g} s; call again once the policy runs"
            )
        elif active and cycle.retreating:
            response.message = f"not resumed: {GOING_BACK}"
        elif active and waiting is not None and not cycle.ladder.stopped:
            response.message = f"not resumed: {waiting.text}; then call again"
        else:
            response.message = "not resumed: " + (
                "the node is not active"
                if not active or cycle.ladder.cause is None
                else f"{cycle.ladder.cause.text}; call ~/clear_fault first"
            )
        return response

    def note(self, found: Finding) -> None:
        """Take note of an event; say why an operator has to let the arm go once more."""
        if found.code != AWAITING_GO:
            self._cause = found.text
        elif self._go_given:
            self._go_given = False
            self._node.get_logger().warning(f"the permission of ~/resume has ended: {self._cause}")

    async def _retreat(self, _request: Any, response: Any) -> Any:
        """Answer once the arm has gone back and stands, while every other callback goes on."""
        if self._stream() is None:
            response.success, response.message = False, "not gone back: the node is not active"
            return response
        over: Future[Retreated] = Future(executor=self._node.executor)
        self._cycle.retreat(over.set_result)
        self._wake()
        result = await over
        if self._closed or result is None:
            # The service is gone: an answer would be an error.
            await Future(executor=self._node.executor)
        else:
            response.success, response.message = result.moved, result.text
        return response

    def _wake(self) -> None:
        stream = self._stream()
        if isinstance(stream, SteppedStream):
            stream.wake()
