# SPDX-License-Identifier: Apache-2.0
"""One listener for everything that watches running nodes: topics in, typed values with stamps out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from wam.core.errors import WamError
from wam.core.thread_names import show_thread_name
from wam.ros.inputs import waited_ns
from wam.ros.on_demand import Unattended, take_waiting
from wam.ros.qos import JOINT_STATE_QUEUE
from wam.ros.segments import private_segments
from wam.ros.timers import steady_timer
from wam.stack.topics import StackTopic

SPIN_TIMEOUT_S = 0.1
CLOSE_TIMEOUT_S = 5.0
BULK_PERIOD_S = 0.05

Value = TypeVar("Value")


class TopicListener:
    """A node with a context and a thread of its own that hands decoded messages to callbacks.

    Callbacks run one at a time in the listener's thread, under the lock that `wait_for` holds while it checks its
    condition. Subscribe first, then `start`.

    Args:
        name: name of the node.
        namespace: of the node; "" for none.
        now: clock of the arrival times [ns]; None takes the node's.

    Attributes:
        problems: messages that could not be decoded, one sentence each.
        sent_ns: in a callback, when the message was published, on the system clock of the publisher's machine [ns]; 0
            where the middleware does not tell.
    """

    def __init__(self, name: str, *, namespace: str = "", now: Callable[[], int] | None = None) -> None:
        self._context = Context()
        with private_segments():
            rclpy.init(context=self._context, args=[])
            # Services of parameters, which nobody calls, would be looked through at every message.
            self.node = Node(
                name,
                context=self._context,
                namespace=namespace,
                use_global_arguments=False,
                start_parameter_services=False,
            )
        self._now = now
        self._changed = threading.Condition()
        self.problems: list[str] = []
        self.sent_ns = 0
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._stopping = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def listen(
        self, topic: StackTopic[Value], take: Callable[[Value, int], None], *, in_bulk: bool = False
    ) -> None:
        """Subscribe to a topic.

        Args:
            topic: what to subscribe to.
            take: called with each value and its time of arrival [ns]. A message that cannot be decoded or taken is
                noted once in `problems`.
            in_bulk: take what has come 20 times a second: for fast topics that nothing waits for.
        """

        def callback(message: Any, info: Any) -> None:
            with self._changed:
                arrival_ns = self.now_ns() - (waited_ns(info) if in_bulk else 0)
                self.sent_ns = int(info.get("source_timestamp") or 0)
                try:
                    take(topic.decode(message), arrival_ns)
                except WamError as error:
                    text = f"{topic.name}: {error}"
                    if text not in self.problems:
                        self.problems.append(text)
                self._changed.notify_all()

        def callback_alone(message: Any) -> None:
            callback(message, {})

        told = hasattr(Subscription, "CallbackType")  # older clients do not tell how a message arrived
        taken: Any = callback if told else callback_alone
        if not in_bulk:
            self.node.create_subscription(topic.kind, topic.name, taken, topic.qos)
            return
        subscription = self.node.create_subscription(
            topic.kind, topic.name, taken, JOINT_STATE_QUEUE, callback_group=Unattended()
        )

        def drain() -> None:
            with self._changed:
                for message, info in take_waiting(subscription, limit=JOINT_STATE_QUEUE.depth):
                    callback(message, info)

        steady_timer(self.node, BULK_PERIOD_S, drain)

    def listen_raw(
        self, name: str, kind: type[Any], qos: QoSProfile, take: Callable[[bytes, int], None]
    ) -> None:
        """Subscribe to a topic's serialized messages.

        Args:
            name: of the topic.
            kind: class of its messages.
            qos: quality of service to request.
            take: called with the bytes of each message and its time of arrival [ns].
        """
        self.node.create_subscription(kind, name, lambda raw: take(raw, self.now_ns()), qos, raw=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def wait_for(self, condition: Callable[[], bool], *, timeout: float) -> bool:
        """Return whether `condition` became true within `timeout` [s]; it is checked after every message."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def locked(self) -> threading.Condition:
        """Return the lock under which values arrive: `with listener.locked():` sees all of them at one moment."""
        return self._changed

    def wake(self) -> None:
        """Have waits check their condition, for changes that are not messages."""
        with self._changed:
            self._changed.notify_all()

    def now_ns(self) -> int:
        """Return the time of arrivals [ns]."""
        if self._now is not None:
            return self._now()
        return int(self.node.get_clock().now().nanoseconds)

    def close(self) -> None:
        """Stop receiving; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_S)
        self.node.destroy_node()
        self._executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        show_thread_name()
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=SPIN_TIMEOUT_S)
