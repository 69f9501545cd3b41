# SPDX-License-Identifier: Apache-2.0
"""Emergency stops and the enabling device: their own node, executor and thread, so that no chunk delays them."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.thread_names import show_thread_name
from wam.core.verdict import Finding, Verdict
from wam.devices.estop import EstopFeed
from wam.devices.optional import VENDOR_TYPES, Find, find_by, find_type
from wam.robots.estop import EstopSource
from wam.ros.qos import EVENT, EVENT_KEPT, JOINT_STATE
from wam.ros.timers import steady_timer
from wam.runtime.safety.cycle import SafetyCycle
from wam.runtime.safety.enable import EnablingDevice
from wam.runtime.safety.estop import ANONYMOUS, EstopMonitor, SourceRule, SourceState

DEFAULT_SOURCE = "estop"
"""Name of the source behind the parameter `estop_topic`, which need not be there."""

LOOK_PERIOD_S = 0.05
SPIN_TIMEOUT_S = 0.2
JOIN_TIMEOUT_S = 3.0
FAST_PERIOD_S = 0.01
"""Period at which a 1 kHz status is decoded."""

STUCK_NS = NS_PER_S
"""The listener has not run for so long while the command thread has: a STOP [ns]."""

STEP_MAX_NS = 50 * NS_PER_MS
"""Most time that one step of the command thread counts for, so that a suspended process does not look stuck [ns]."""


class EstopListener:
    """Hears all emergency stops and raises their causes; serves `~/estop`.

    Callbacks run in a thread of this object, `before_step` in the command thread, the rest in the node's own.

    Args:
        node: the safety node, whose names and remappings count.
        cycle: gets the causes.
        topic: std_msgs/Bool of the source that need not be there; "" for none.
        sources: those that must be there; one on `topic` takes its place.
        feeds: those that devices report themselves, by name; one whose message type is not installed is skipped.
        enable_topic: std_msgs/Bool of the enabling device; "" for none.
        find: returns a vendor's message type, or None.
    """

    def __init__(
        self,
        node: Any,
        cycle: SafetyCycle,
        *,
        topic: str,
        sources: Sequence[EstopSource] = (),
        feeds: Mapping[str, EstopFeed] | None = None,
        enable_topic: str = "",
        find: Find = find_type,
    ) -> None:
        self._cycle, self._logger = cycle, node.get_logger()
        self._resolve = node.resolve_topic_name
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._raised: set[tuple[str, str]] = set()
        self._turns, self._seen_turns = 0, -1
        self._stuck_ns, self._stepped_ns = 0, time.monotonic_ns()
        # The names come resolved from the safety node; a remapped node name would be given to this one as well.
        self._node = Node(
            f"{node.get_name()}_estop",
            namespace=node.get_namespace(),
            context=node.context,
            use_global_arguments=False,
            start_parameter_services=False,
        )
        self._topics: dict[str, str] = {}
        self._more: dict[str, dict[str, Callable[[], None]]] = {}
        rules: list[SourceRule] = []
        listen: list[tuple[str, Any, EstopFeed]] = []
        plain = [(one.name, one.topic, one.heartbeat_ns, True) for one in sources]
        if topic and self._resolve(topic) not in [self._resolve(one.topic) for one in sources]:
            plain.append((DEFAULT_SOURCE, topic, 0, False))
        for name, own_topic, heartbeat_ns, required in plain:
            rules.append(SourceRule(name, heartbeat_ns, required))
            listen.append((name, Bool, EstopFeed("bool", own_topic, lambda message: bool(message.data))))
        for name, feed in (feeds or {}).items():
            kind = find_by(find, feed.type)
            if kind is None:
                package = VENDOR_TYPES[feed.type][0]
                self._logger.info(f"emergency stop {name} cannot be heard: {package} is not installed")
                continue
            rules.append(SourceRule(name, feed.heartbeat_ns, stateful=feed.stateful))
            listen.append((name, kind, feed))
        self.monitor = EstopMonitor(rules, clock=time.monotonic_ns)
        self._enabling = EnablingDevice(clock=time.monotonic_ns) if enable_topic else None
        for name, kind, feed in listen:
            self._listen(name, kind, feed)
        if enable_topic:
            self._subscribe(Bool, self._resolve(enable_topic), self._take_enable, JOINT_STATE)
        service = node.resolve_service_name("~/estop")
        self._node.create_service(Trigger, service, self._serve_estop)
        steady_timer(self._node, LOOK_PERIOD_S, self._turn)
        self._look()
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="estop", daemon=True)
        self._thread.start()

    def activate(self) -> None:
        """Begin anew: no source is armed before a live false has come."""
        self.monitor.activate()
        self._look()

    def before_step(self) -> None:
        """Raise and withdraw causes: a silence is noticed here even if the listener's thread is stuck."""
        now_ns = time.monotonic_ns()
        passed_ns, self._stepped_ns = min(now_ns - self._stepped_ns, STEP_MAX_NS), now_ns
        turns = self._turns
        self._stuck_ns = 0 if turns != self._seen_turns else self._stuck_ns + passed_ns
        self._seen_turns = turns
        self._sync()

    def release(self) -> str:
        """Accept a request to clear; return "" or why it cannot be cleared."""
        refusal = self.monitor.release()
        self._sync()
        return refusal

    def states(self) -> tuple[SourceState, ...]:
        """Return all sources as they are now."""
        return self.monitor.states()

    def close(self) -> None:
        """End the thread and remove the node."""
        self._stopping.set()
        self._executor.wake()
        self._thread.join(JOIN_TIMEOUT_S)
        self._executor.shutdown(timeout_sec=JOIN_TIMEOUT_S)
        self._node.destroy_node()

    def _listen(self, name: str, kind: Any, feed: EstopFeed) -> None:
        """Hear every publisher that is there or comes, whatever its QoS.

        A best-effort reader hears them all. One that is reliable is added for reliable publishers, and one that hears
        what was latched for those that latch: with it from the start, the publishers it does not match would log that
        their emergency stop is not heard.
        """
        topic = self._topics[name] = self._resolve(feed.topic)

        def add(qos: QoSProfile, live: bool) -> None:
            take = partial(self._take, name, feed, live)
            if feed.fast:
                take = partial(take, kind=kind, read_at=[0.0])
            self._subscribe(kind, topic, take, qos, raw=feed.fast)

        add(JOINT_STATE, True)
        if not feed.fast:
            self._more[name] = {
                "reliable": partial(add, EVENT, True),
                "latched": partial(add, EVENT_KEPT, False),
            }

    def _hear_as_offered(self, name: str, publishers: Sequence[Any]) -> set[bytes]:
        """Add the readers that these publishers need; return the ids of those that latch."""
        more = self._more.get(name, {})
        latching = set()
        for one in publishers:
            if one.qos_profile.reliability is QoSReliabilityPolicy.RELIABLE:
                needs = ["reliable"]
                if one.qos_profile.durability is QoSDurabilityPolicy.TRANSIENT_LOCAL:
                    needs.append("latched")
                    latching.add(bytes(one.endpoint_gid))
                for add in [more.pop(need) for need in needs if need in more]:
                    add()
        return latching

    def _subscribe(self, kind: Any, topic: str, take: Any, qos: Any, *, raw: bool = False) -> None:
        def with_info(message: Any, info: Any) -> None:
            take(message, info)

        def alone(message: Any) -> None:
            take(message, {})

        # A publisher that one of the readers does not match is heard by another: no warning.
        silent = SubscriptionEventCallbacks(incompatible_qos=lambda _info: None)
        told = hasattr(Subscription, "CallbackType")  # older clients do not tell who has published
        self._node.create_subscription(
            kind, topic, with_info if told else alone, qos, event_callbacks=silent, raw=raw
        )

    def _take(
        self,
        name: str,
        feed: EstopFeed,
        live: bool,
        message: Any,
        info: Any,
        *,
        kind: Any = None,
        read_at: list[float] | None = None,
    ) -> None:
        if read_at is not None:
            now = time.monotonic()
            if now - read_at[0] < FAST_PERIOD_S:
                return
            read_at[0] = now
            message = deserialize_message(message, kind)
        sequence = info.get("publication_sequence_number") or 0
        if self.monitor.hear(name, _gid(info), feed.pressed(message), live=live, sequence=sequence):
            # Once more on its own: a press that is released before the next step still stops.
            text = f"emergency stop {name} was pressed"
            self._cycle.raise_cause(Finding(Verdict.STOP, "estop", text, name), once=True)
        self._sync()

    def _take_enable(self, message: Any, info: Any) -> None:
        if self._enabling is not None:
            self._enabling.hear(_gid(info), bool(message.data))

    def _serve_estop(self, _request: Any, response: Any) -> Any:
        self._cycle.estop()
        response.success, response.message = True, "stopping; ~/clear_fault releases it"
        return response

    def _look(self) -> None:
        for name, topic in self._topics.items():
            found = self._node.get_publishers_info_by_topic(topic)
            with self._looking:
                latching = self._hear_as_offered(name, found)
            self.monitor.look(name, {bytes(one.endpoint_gid) for one in found}, latching)
        self._sync()

    def _turn(self) -> None:
        self._turns += 1
        self._look()

    def _sync(self) -> None:
        """Make the causes of the cycle those that are present now."""
        with self._lock:
            present = {(one.code, one.joint): one for one in self._present()}
            for key in self._raised - present.keys():
                self._cycle.withdraw_cause(key[0], of=key[1])
            for key in present.keys() - self._raised:
                self._cycle.raise_cause(present[key], of=key[1])
            self._raised = set(present)

    def _present(self) -> list[Finding]:
        found = list(self.monitor.findings())
        disabled = None if self._enabling is None else self._enabling.finding()
        if disabled is not None:
            found.append(disabled)
        if self._stuck_ns > STUCK_NS:
            text = f"the listener of emergency stops has not run for {self._stuck_ns * 1e-9:.1f} s"
            found.append(Finding(Verdict.STOP, "estop_silent", text, "listener"))
        return found

    def _spin(self) -> None:
        show_thread_name()
        while not self._stopping.is_set():
            try:
                self._executor.spin_once(timeout_sec=SPIN_TIMEOUT_S)
            except ExternalShutdownException:
                return
            except Exception as error:  # whatever a callback met, the next message must still be heard
                self._logger.error(f"listening to emergency stops failed:\n{traceback.format_exc()}")
                text = f"listening to emergency stops failed: {type(error).__name__}: {error}"
                self._cycle.raise_cause(Finding(Verdict.STOP, "internal_error", text), once=True)


def _gid(info: Mapping[str, Any]) -> bytes:
    """Return the id of a message's publisher, or `ANONYMOUS`."""
    told = info.get("publisher_gid")
    return ANONYMOUS if told is None else bytes(told["data"])
