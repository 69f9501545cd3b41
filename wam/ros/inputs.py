# SPDX-License-Identifier: Apache-2.0
"""The subscriptions of a node, each behind a guard: every message passes `InputGuard` before a callback sees it.

A callback may raise. An error of the suite means that the message does not fit, anything else that it was not foreseen;
both are refusals, which are counted and logged at a limited rate, and never reach rclpy, where they would end the node.
"""

from __future__ import annotations

import enum
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from wam.core.clock import NS_PER_S, Clock
from wam.core.errors import ContractMismatch, WamError
from wam.core.input_guard import Arrival, InputContract, InputGuard, InputReason, RefusedInput
from wam.ros.conversions import time_to_ns
from wam.ros.on_demand import Unattended, take_waiting

LOOK_PERIOD_NS = NS_PER_S // 10
"""Unknown publishers are looked up in the graph at most once in this time [ns]."""

UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"
"""What rmw calls a node of which only the endpoint has been discovered."""

DEFAULT = InputContract()


class ReadBy(enum.Enum):
    """Who turns the bytes of a message into an object."""

    GUARD = "guard"  # once size and sender are known to be right
    RCLPY = "rclpy"  # large messages: one copy less, but their bytes are read before they are judged
    CALLBACK = "callback"  # gets bytes, for a stream of which only few messages are read


def node_name(endpoint: Any) -> str | None:
    """Return the full name of the node of an endpoint of the graph, None where it is not known (yet)."""
    if endpoint.node_name == UNKNOWN_NODE:
        return None
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def publisher_nodes(node: Node, topic: str) -> list[str | None]:
    """Return the full name of the node of each publisher of `topic` (absolute), None where it is not known (yet)."""
    return [node_name(info) for info in node.get_publishers_info_by_topic(topic)]


def node_of_topic(node: Node, topic: str) -> str:
    """Return the full name of the node that `topic` is named after, e.g. /wam_executor for wam_executor/chunk."""
    return str(node.resolve_topic_name(topic)).rpartition("/")[0]


class GuardedInput:
    """One guarded subscription.

    Args:
        node: owns it.
        kind: message type.
        topic: relative.
        callback: gets the message and how it arrived; may raise.
        qos: of the subscription.
        clock: the node's, for stamps.
        contract: what is accepted.
        read_by: who reads the bytes.
        on_read: called with every message of the type, also with those that are refused for their sender or stamp.
        on_refused: called with every refusal.
        on_demand: `callback` is called by `drain` alone, in its thread, for all that has come since; `qos` must keep
            as many.
        more: goes to `create_subscription`.
    """

    def __init__(
        self,
        node: Node,
        kind: type[Any],
        topic: str,
        callback: Callable[[Any, Arrival], None],
        qos: QoSProfile,
        *,
        clock: Clock,
        contract: InputContract,
        read_by: ReadBy,
        on_read: Callable[[Any, Arrival], None] | None,
        on_refused: Callable[[RefusedInput], None] | None,
        on_demand: bool,
        more: dict[str, Any],
    ) -> None:
        self._node, self._kind, self._callback, self._clock = node, kind, callback, clock
        self._read_by, self._on_read, self._on_refused = read_by, on_read, on_refused
        self._full_topic = node.resolve_topic_name(topic)
        self._looked_ns = 0
        self._nodes: dict[bytes, str] = {}
        self.guard = InputGuard(topic, contract, name_of=self._name_of)
        raw = read_by is not ReadBy.RCLPY
        told = hasattr(Subscription, "CallbackType")  # older clients do not tell how a message arrived
        take: Any = self._take if told else self._take_alone
        self._draining = threading.Lock()
        self._depth = qos.depth
        if on_demand:
            more = {**more, "callback_group": Unattended()}
        self._subscription = node.create_subscription(kind, topic, take, qos, raw=raw, **more)

    def drain(self, *, wait: bool = True) -> None:
        """Call the callback for all that waits, where the input is `on_demand`; from any thread.

        Args:
            wait: for a thread that does so already; else leave it to that.
        """
        if not self._draining.acquire(blocking=wait):
            return
        try:
            for message, info in take_waiting(self._subscription, limit=self._depth):
                self._take(message, info)
        finally:
            self._draining.release()

    def receipt_ns(self) -> int:
        """Return the time on the clock of the receipts [ns]."""
        return self._clock.now_ns() if self.guard.contract.node_time else time.monotonic_ns()

    def close(self) -> None:
        """Remove the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _take_alone(self, message: Any) -> None:
        self._take(message, {})

    def _take(self, message: Any, info: Any) -> None:
        arrival = _arrival(info)
        if self.guard.contract.node_time:
            arrival = replace(arrival, receive_ns=self._clock.now_ns())
        trace = ""
        try:
            refused = self._judge(message, arrival)
        except ContractMismatch as error:
            refused = RefusedInput(InputReason.CONTRACT, str(error))
        except WamError as error:
            refused = RefusedInput(InputReason.MALFORMED, str(error))
        except Exception as error:  # no message may end the node
            refused = RefusedInput(InputReason.INTERNAL, f"{type(error).__name__}: {error}")
            trace = traceback.format_exc()
        if refused is not None:
            self._refuse(refused, arrival, trace)

    def _judge(self, message: Any, arrival: Arrival) -> RefusedInput | None:
        refused = self.guard.door(arrival, _size(message))
        if refused is not None:
            return refused
        if self._read_by is ReadBy.GUARD:
            try:
                message = deserialize_message(message, self._kind)
            except Exception as error:  # rclpy raises errors of several modules here
                return self.guard.unreadable(arrival, error)
        if self._on_read is not None:
            self._on_read(message, arrival)
        if self.guard.contract.parts:
            refused = self.guard.share(arrival, message.name)
            if refused is not None:
                return refused
        if self.guard.contract.max_ahead_ns:
            refused = self.guard.stamp(time_to_ns(message.header.stamp), self._clock.now_ns())
            if refused is not None:
                return refused
        self._callback(message, arrival)
        self.guard.accepted += 1
        return None

    def _refuse(self, refused: RefusedInput, arrival: Arrival, trace: str) -> None:
        line = self.guard.refuse(refused, arrival.receive_ns)
        if line:
            self._node.get_logger().warning(f"{line}\n{trace}".rstrip())
        if self._on_refused is not None:
            self._on_refused(refused)

    def _name_of(self, sender: bytes) -> str | None:
        now_ns = time.monotonic_ns()
        if sender not in self._nodes and now_ns - self._looked_ns > LOOK_PERIOD_NS:
            self._looked_ns = now_ns
            self._nodes = {
                bytes(info.endpoint_gid)[: len(sender)]: name
                for info in self._node.get_publishers_info_by_topic(self._full_topic)
                if (name := node_name(info)) is not None
            }
        return self._nodes.get(sender)


class Inputs:
    """The guarded subscriptions of one owner.

    Args:
        node: owns the subscriptions.
        clock: the node's time, on the axis of the stamps.
    """

    def __init__(self, node: Node, clock: Clock) -> None:
        self.node, self._clock = node, clock
        self._open: list[GuardedInput] = []
        self._before: dict[str, Counter[InputReason]] = {}

    def subscribe(
        self,
        kind: type[Any],
        topic: str,
        callback: Callable[[Any, Arrival], None],
        qos: QoSProfile,
        *,
        contract: InputContract = DEFAULT,
        read_by: ReadBy = ReadBy.GUARD,
        on_read: Callable[[Any, Arrival], None] | None = None,
        on_refused: Callable[[RefusedInput], None] | None = None,
        on_demand: bool = False,
        **more: Any,
    ) -> GuardedInput:
        """Subscribe behind a guard; arguments as `GuardedInput`."""
        made = GuardedInput(
            self.node,
            kind,
            topic,
            callback,
            qos,
            clock=self._clock,
            contract=contract,
            read_by=read_by,
            on_read=on_read,
            on_refused=on_refused,
            on_demand=on_demand,
            more=more,
        )
        self._open.append(made)
        return made

    def listen(
        self, kind: type[Any], topic: str, callback: Callable[[Any], None], qos: QoSProfile, **more: Any
    ) -> GuardedInput:
        """Subscribe with a callback that gets the message alone; `more` as `subscribe`."""
        return self.subscribe(kind, topic, partial(_without_arrival, callback), qos, **more)

    def remove(self, one: GuardedInput) -> None:
        """Remove a subscription; what it has refused still counts."""
        if one in self._open:
            self._open.remove(one)
            one.close()
            self._before.setdefault(one.guard.topic, Counter()).update(one.guard.counts)

    def close(self) -> None:
        """Remove all subscriptions."""
        while self._open:
            self.remove(self._open[-1])

    def refused(self) -> dict[str, Counter[InputReason]]:
        """Return how many messages were refused for which reason, by topic; topics without refusals are left out."""
        found = {topic: Counter(counts) for topic, counts in self._before.items()}
        for one in tuple(self._open):
            found.setdefault(one.guard.topic, Counter()).update(one.guard.counts)
        return {topic: counts for topic, counts in found.items() if counts}

    def values(self, *others: Inputs) -> dict[str, object]:
        """Return what diagnostics show: messages refused here and in `others`, in total, and by topic and reason."""
        found = self.refused()
        for other in others:
            for topic, counts in other.refused().items():
                found.setdefault(topic, Counter()).update(counts)
        lines: dict[str, object] = {"inputs_refused": sum(counts.total() for counts in found.values())}
        for topic, counts in sorted(found.items()):
            lines[f"refused {topic}"] = ", ".join(f"{reason.value} {n}" for reason, n in counts.items())
        return lines


def waited_ns(info: Any) -> int:
    """Return how long a message has waited in the queue, from rclpy's message info [ns]; 0 where it is not told."""
    received = info.get("received_timestamp") or 0
    return max(0, time.time_ns() - received) if received else 0


def _without_arrival(callback: Callable[[Any], None], message: Any, _arrival: Arrival) -> None:
    callback(message)


def _arrival(info: Any) -> Arrival:
    """Return how a message arrived, from rclpy's message info (a dict; what an rmw does not tell is left out)."""
    now_ns, queued_ns = time.monotonic_ns(), waited_ns(info)
    gid = info.get("publisher_gid")
    sender = bytes(gid["data"]) if gid else b""
    return Arrival(now_ns - min(queued_ns, NS_PER_S), sender, queued_ns)


def _size(message: Any) -> int:
    if isinstance(message, bytes):
        return len(message)
    data = getattr(message, "data", ())
    return len(data) if hasattr(data, "__len__") else 0
