# SPDX-License-Identifier: Apache-2.0
"""Simulated time in lock-step: `/clock` advances only when every node that takes part has dealt with the last time.

What is waited for is then counted in simulated time, and neither a slow machine nor a busy one changes what comes
of it. Wall time only bounds how long a node may take to answer at all.

A node answers a time when its step is done; what it has sent in that step may still be on its way, in a relay or in a
queue. Hence a second round before time goes on: every node is asked for its lifecycle state. The request reaches a
process behind all that was sent to it before, and rclpy serves requests after the messages that came with them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from lifecycle_msgs.srv import GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from wam.core.clock import NS_PER_MS, NS_PER_S, seconds_to_ns
from wam.ros.conversions import ns_to_time, time_to_ns
from wam.ros.lock_step import TOPIC
from wam.ros.qos import CLOCK, LOCK_STEP
from wam.ros.segments import private_segments
from wam.stack.runner import StackFailed

START_NS = 1_000 * NS_PER_S
"""First time [ns]: far from zero, which means "no time yet", and far from wall time."""

TICK_NS = 10 * NS_PER_MS
"""Time between two values of `/clock`: one cycle of the safety node [ns]."""

ANSWER_TIMEOUT_S = 60.0
"""A node that has not answered a tick for so long is hung, on any machine [s of wall time]."""

ROUNDS = 2
"""Requests to a node after each time: each is served behind one message of every topic, and the fastest streams send
two for each tick."""

REPEAT_S = 0.25
"""A time that was not answered is published again after this: nodes subscribe to `/clock` as best effort [s]."""


class LockStep:
    """Publishes `/clock` and waits for the nodes.

    A node takes part from its first answer on, until it says that it has stopped or is excluded. With nobody
    to wait for, time passes at the rate of wall time.

    Args:
        context: rclpy context of the node; None makes one.
        namespace: of the nodes; "" for none.
        before_tick: called before every new time is published, with it [ns].
        ask: hold the second round. Without it time passes faster, and messages may be late by a tick or two.
    """

    def __init__(
        self,
        *,
        context: Context | None = None,
        namespace: str = "",
        before_tick: Callable[[int], None] = lambda now_ns: None,
        ask: bool = True,
    ) -> None:
        self._own_context = context is None
        self._context = Context() if context is None else context
        with private_segments():
            if self._own_context:
                rclpy.init(context=self._context, args=[])
            # Services of parameters, which nobody calls, would be looked through at every message.
            self.node = Node(
                "lock_step",
                context=self._context,
                namespace=namespace,
                use_global_arguments=False,
                start_parameter_services=False,
            )
        self.now_ns = START_NS
        self._before_tick = before_tick
        self._second_round = ask
        self._changed = threading.Condition()
        self._answered: dict[str, int] = {}
        self._excluded: set[str] = set()
        self._relays: set[str] = set()
        self._listeners: set[str] = set()
        self._clients: dict[str, Any] = {}
        self._clock = self.node.create_publisher(Clock, "/clock", CLOCK)
        self.node.create_subscription(Header, TOPIC, self._on_answer, LOCK_STEP)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="lock_step", daemon=True)
        self._thread.start()

    def participants(self) -> set[str]:
        """Return the full names of the nodes that are waited for."""
        with self._changed:
            return set(self._answered)

    def include(self, node: Node, *, relay: bool = False) -> None:
        """Wait at every time until a node of this process has taken what was sent to it.

        Args:
            node: spun by a thread of its own.
            relay: it passes messages on, so it is waited for before the others.
        """
        node.create_service(GetState, "~/get_state", lambda _request, response: response)
        (self._relays if relay else self._listeners).add(node.get_fully_qualified_name())

    def leave_out(self, node: Node) -> None:
        """Undo `include`, before the node is destroyed."""
        for names in (self._relays, self._listeners):
            names.discard(node.get_fully_qualified_name())

    def exclude(self, *names: str) -> None:
        """Go on without nodes, e.g. because they were killed or frozen; full names."""
        with self._changed:
            self._excluded.update(names)
            for name in names:
                self._answered.pop(name, None)
            self._changed.notify_all()

    def admit(self, *names: str) -> None:
        """Wait for nodes again, from their next answer on."""
        with self._changed:
            self._excluded.difference_update(names)

    def tick(self) -> None:
        """Let one tick pass and wait until every node has dealt with it.

        Raises:
            StackFailed: a node has not answered for `ANSWER_TIMEOUT_S`.
        """
        self.now_ns += TICK_NS
        self._before_tick(self.now_ns)
        message = Clock(clock=ns_to_time(self.now_ns))
        began = time.monotonic()
        while True:
            self._clock.publish(message)
            with self._changed:
                if not self._answered:
                    self._changed.wait(TICK_NS * 1e-9)
                    break
                if self._changed.wait_for(self._all_answered, REPEAT_S):
                    break
                late = self._late()
            waited = time.monotonic() - began
            if waited >= ANSWER_TIMEOUT_S:
                raise StackFailed(
                    f"{', '.join(late)} has not answered {self.now_ns} ns of /clock for {waited:.0f} s"
                )
        if not self._second_round:
            return
        self._ask(set(self._relays))
        self._ask(self.participants() - self._relays | self._listeners)

    def run(self, seconds: float) -> None:
        """Let `seconds` of simulated time pass."""
        end_ns = self.now_ns + seconds_to_ns(seconds)
        while self.now_ns < end_ns:
            self.tick()

    def until(self, condition: Callable[[], Any], *, timeout: float, least: float = 0.0) -> bool:
        """Let time pass until `condition` holds.

        Args:
            condition: looked at after every tick.
            timeout: simulated time after which it is given up [s].
            least: wall time that has to pass as well before it is given up [s]; for what comes from discovery, from a
                process that starts or from anything else that does not follow `/clock`.

        Returns:
            Whether it came to hold.
        """
        end_ns, end = self.now_ns + seconds_to_ns(timeout), time.monotonic() + least
        while not condition():
            if self.now_ns >= end_ns and time.monotonic() >= end:
                return False
            self.tick()
        return True

    def hold(self, *names: str, timeout: float) -> bool:
        """Let time stand still until nodes take part, so that none goes on, or takes cores, while others start.

        Args:
            names: full names of the nodes that are waited for.
            timeout: wall time after which it is given up [s].

        Returns:
            Whether all of them take part.
        """
        message = Clock(clock=ns_to_time(self.now_ns))
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            # A node that has just started knows no time yet, and answers the first one that it hears.
            self._clock.publish(message)
            with self._changed:
                if self._changed.wait_for(lambda: self._answered.keys() >= set(names), REPEAT_S):
                    return True
        return False

    def close(self) -> None:
        """Stop publishing."""
        self._stopping.set()
        self._thread.join(5.0)
        self.node.destroy_node()
        self._executor.shutdown(timeout_sec=1.0)
        if self._own_context:
            rclpy.try_shutdown(context=self._context)

    def _on_answer(self, message: Any) -> None:
        name, stamp_ns = message.frame_id, time_to_ns(message.stamp)
        with self._changed:
            if stamp_ns == 0 or name in self._excluded:
                self._answered.pop(name, None)
            else:
                self._answered[name] = stamp_ns
            self._changed.notify_all()

    def _ask(self, names: set[str]) -> None:
        """Wait until nodes have taken what was sent to them up to now."""
        waiting: dict[str, list[Any]] = {}
        began = time.monotonic()
        while True:
            for name in names:
                self._request(name, waiting)
            with self._changed:
                if self._changed.wait_for(lambda: not self._behind(waiting), REPEAT_S):
                    return
                names = self._behind(waiting)
            waited = time.monotonic() - began
            if waited >= ANSWER_TIMEOUT_S:
                raise StackFailed(
                    f"{', '.join(sorted(names))} has not taken its messages at {self.now_ns} ns of /clock for "
                    f"{waited:.0f} s"
                )

    def _request(self, name: str, waiting: dict[str, list[Any]]) -> None:
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self.node.create_client(GetState, f"{name}/get_state")
        if client.service_is_ready():
            made = [client.call_async(GetState.Request()) for _ in range(ROUNDS)]
            waiting.setdefault(name, []).extend(made)
            for future in made:
                future.add_done_callback(self._on_state)

    def _behind(self, waiting: dict[str, list[Any]]) -> set[str]:
        taking_part = {*self._answered, *self._relays, *self._listeners}
        return {
            name
            for name, futures in waiting.items()
            if name in taking_part and sum(future.done() for future in futures) < ROUNDS
        }

    def _on_state(self, _future: Any) -> None:
        with self._changed:
            self._changed.notify_all()

    def _all_answered(self) -> bool:
        return all(stamp_ns >= self.now_ns for stamp_ns in self._answered.values())

    def _late(self) -> list[str]:
        return sorted(name for name, stamp_ns in self._answered.items() if stamp_ns < self.now_ns)

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=0.1)
