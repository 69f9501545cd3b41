# SPDX-License-Identifier: Apache-2.0
"""The start order of a run with a simulated robot, and calls of its services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wam.stack.listener import TopicListener
from wam.stack.processes import NodeSpec
from wam.stack.recorder import Recorder
from wam.stack.runner import StackRunner


def start_simulated(
    runner: StackRunner,
    recorder: Recorder,
    *,
    robot: NodeSpec,
    nodes: Sequence[NodeSpec],
    with_images: bool,
) -> None:
    """Start the robot, then safety and policy once it is measured; return when the first chunk has arrived.

    Args:
        runner: of the processes.
        recorder: listens to them.
        robot: the simulated robot.
        nodes: the safety node, then the policy.
        with_images: whether the policy sees cameras.

    Raises:
        StackFailed: a process ended or stayed silent.
    """
    runner.start(robot)
    runner.wait_for("joint states", lambda: recorder.has_joint_states)
    runner.start(*nodes)
    if with_images:
        runner.wait_for("camera images", lambda: recorder.images > 0)
    runner.wait_for("the first planner context", lambda: bool(recorder.contexts))
    runner.wait_for("the first action chunk", lambda: bool(recorder.chunks))


class ServiceCalls:
    """Calls services of the nodes of a run.

    Args:
        listener: its node makes the calls.
        runner: of the processes that answer.
    """

    def __init__(self, listener: TopicListener, runner: StackRunner) -> None:
        self._listener = listener
        self._runner = runner
        self._clients: dict[str, Any] = {}

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Return the answer of a service.

        Args:
            kind: class of the service.
            name: of the service.
            request: what to send.

        Raises:
            StackFailed: there is no answer in time, or a process has ended.
        """
        if name not in self._clients:
            self._clients[name] = self._listener.node.create_client(kind, name)
        client = self._clients[name]
        pending: list[Any] = []

        def answered() -> bool:
            if not pending and client.service_is_ready():
                pending.append(client.call_async(request))
                pending[0].add_done_callback(lambda _: self._listener.wake())
            return bool(pending) and bool(pending[0].done())

        timeout = self._runner.limits.answer
        self._runner.wait_for(f"an answer of service {name}", answered, timeout=timeout)
        return pending[0].result()
