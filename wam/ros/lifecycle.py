# SPDX-License-Identifier: Apache-2.0
"""The base of all nodes: a node fills four hooks, the base owns the transitions and removes what the node has made.

    configure   read and check parameters, load everything    -> `setup`
    activate    begin to act                                  -> `start`
    deactivate  refuse new work, wait bounded, secure last    -> `stop`
    cleanup     free everything                               -> `teardown`, then what the `add_...` methods made

rclpy swallows exceptions of transition callbacks. Here a `WamError` becomes one log line and a FAILURE, any other
exception a traceback and an ERROR; in both cases the node is brought back to the state before.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rclpy.time_source import CLOCK_TOPIC

from wam.core.clock import Clock
from wam.core.errors import WamError
from wam.core.input_guard import Arrival
from wam.ros.diagnostics import Diagnostics
from wam.ros.inputs import GuardedInput, Inputs
from wam.ros.on_demand import leave_unattended, take_waiting
from wam.ros.parameters import declare, refuse_changes
from wam.ros.timers import steady_timer

P = TypeVar("P")

USE_SIM_TIME = "use_sim_time"


class RosClock:
    """Clock of a node: wall time, or `/clock` when `use_sim_time` is set.

    Args:
        node: whose clock.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._clock = node, node.get_clock()
        self._ticks: Subscription[Any] | None = None
        self._reading = threading.Lock()

    def read_on_demand(self) -> None:
        """Read `/clock` when the time is asked for, instead of in a callback for each of its messages."""
        topic = self._node.resolve_topic_name(CLOCK_TOPIC)
        self._ticks = next((one for one in self._node.subscriptions if one.topic_name == topic), None)
        if self._ticks is not None:
            leave_unattended(self._ticks)

    def now_ns(self) -> int:
        """Return the node's time [ns]."""
        ticks = self._ticks
        if ticks is not None:
            tell: Any = ticks.callback
            with self._reading:
                for message, _ in take_waiting(ticks, limit=1):
                    tell(message)
        return int(self._clock.now().nanoseconds)


class WamNode(LifecycleNode, Generic[P]):
    """Base of every node of the suite.

    Args:
        name: ROS name of the node.
        parameters: frozen dataclass of `wam.ros.parameters.parameter` fields.
        node_args: passed to `rclpy.lifecycle.LifecycleNode` (namespace, parameter overrides, ...).

    Attributes:
        clock_on_demand: the node asks its `clock` for the time and has no timer on it: `/clock` need not wake it.
    """

    clock_on_demand = False

    def __init__(self, name: str, parameters: type[P], **node_args: Any) -> None:
        super().__init__(name, **node_args)
        self._parameters_type = parameters
        self.params: P | None = None
        self._ros_clock = RosClock(self)
        self.clock: Clock = self._ros_clock
        self.inputs = Inputs(self, self.clock)
        self.last_error: Exception | None = None
        self._acting = False
        self._configured = False
        self._changes_refused = False
        self._removals: list[Callable[[], Any]] = []

    @property
    def p(self) -> P:
        """The parameters in force; only valid from `setup` on."""
        if self.params is None:
            raise RuntimeError(f"the parameters of {self.get_name()} were read before it was configured")
        return self.params

    @property
    def simulated_time(self) -> bool:
        """Whether the clock of the node follows `/clock`."""
        return bool(self.get_parameter("use_sim_time").value)

    def at_cleanup(self, remove: Callable[[], Any]) -> None:
        """Call `remove` after `teardown`; the newest first."""
        self._removals.append(remove)

    def add_publisher(self, kind: type[Any], topic: str, qos: QoSProfile) -> Any:
        """Return a lifecycle publisher that lasts until cleanup."""
        publisher = self.create_lifecycle_publisher(kind, topic, qos)
        self.at_cleanup(partial(self.destroy_lifecycle_publisher, publisher))
        return publisher

    def add_subscription(
        self, kind: type[Any], topic: str, callback: Callable[[Any], None], qos: QoSProfile, **more: Any
    ) -> None:
        """Subscribe behind a guard until cleanup; `more` as `wam.ros.inputs.Inputs.subscribe`."""
        self.at_cleanup(partial(self.inputs.remove, self.inputs.listen(kind, topic, callback, qos, **more)))

    def add_input(
        self,
        kind: type[Any],
        topic: str,
        callback: Callable[[Any, Arrival], None],
        qos: QoSProfile,
        **more: Any,
    ) -> GuardedInput:
        """Do the same with a callback that is told how the message arrived, and return the subscription."""
        made = self.inputs.subscribe(kind, topic, callback, qos, **more)
        self.at_cleanup(partial(self.inputs.remove, made))
        return made

    def add_service(
        self, kind: type[Any], name: str, callback: Callable[[Any, Any], Any], **more: Any
    ) -> None:
        """Serve until cleanup; `more` as `rclpy.node.Node.create_service`."""
        service = self.create_service(kind, name, callback, **more)
        self.at_cleanup(partial(self.destroy_service, service))

    def add_steady_timer(self, period: float, callback: Callable[[], None]) -> None:
        """Call `callback` every `period` [s] of the monotonic clock until cleanup; see `steady_timer`."""
        timer = steady_timer(self, period, callback)
        self.at_cleanup(partial(self.destroy_timer, timer))

    def add_diagnostics(self, *, task: str, hardware_id: str) -> Diagnostics:
        """Return a reporter to `/diagnostics` that lasts until cleanup."""
        diagnostics = Diagnostics(self, task=task, hardware_id=hardware_id)
        self.at_cleanup(diagnostics.close)
        return diagnostics

    def setup(self) -> None:
        """Load and check everything; on any error the base calls `teardown`."""

    def start(self) -> None:
        """Begin to act; publishers are enabled already."""

    def stop(self) -> None:
        """Stop acting: refuse new work, wait for a limited time, send the safety command last. Safe to call twice."""

    def teardown(self) -> None:
        """Free what `setup` made without an `add_...` method, as far as it was made. Safe to call twice."""

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        """Shut down from any state; one that was shut down already (`ros2 lifecycle set NODE shutdown`) stays so."""
        if self._state_machine.current_state[1] == "finalized":
            return TransitionCallbackReturn.SUCCESS
        return super().trigger_shutdown()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, then `setup`."""

        def configure() -> None:
            self._configured = True
            self.params = declare(self, self._parameters_type)
            if not self._changes_refused:
                refuse_changes(self, self._parameters_type)
                self.add_on_set_parameters_callback(self._refuse_another_clock)
                self._changes_refused = True
            if self.clock_on_demand and self.simulated_time and not getattr(self.params, "lock_step", False):
                self._ros_clock.read_on_demand()
            self.setup()

        result = self._guard("configure", configure)
        if result != TransitionCallbackReturn.SUCCESS:
            self._guard("teardown after a failed configure", self._free, keep_error=True)
            return result
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the publishers, then `start`; a failed start leaves the node inactive."""
        super().on_activate(state)
        result = self._guard("activate", self.start)
        if result == TransitionCallbackReturn.SUCCESS:
            self._acting = True
            return result
        self._guard("stop after a failed activate", self.stop, keep_error=True)
        super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """`stop` first, so that its last command still goes out, then disable the publishers."""
        self._secure()
        _release_memory()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """`teardown`."""
        result = self._guard("cleanup", self._free)
        super().on_cleanup(state)
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """`stop` and `teardown` from any state."""
        self._secure()
        result = self._guard("shutdown", self._free)
        super().on_shutdown(state)
        return result

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Secure and free everything; the node can be configured again."""
        self._secure()
        self._guard("teardown after an error", self._free, keep_error=True)
        return TransitionCallbackReturn.SUCCESS

    def _refuse_another_clock(self, parameters: list[Parameter[Any]]) -> SetParametersResult:
        """Refuse `use_sim_time` while the node is configured: its deadlines would jump to the time of another clock."""
        if not self._configured or all(one.name != USE_SIM_TIME for one in parameters):
            return SetParametersResult(successful=True)
        return SetParametersResult(
            successful=False,
            reason=f"{USE_SIM_TIME} cannot be changed while {self.get_name()} is configured: every deadline is on its "
            "clock; set it in the parameter file or on the command line and restart the node, or clean the node up",
        )

    def _free(self) -> None:
        """Run `teardown`, then remove what the `add_...` methods made, whether or not it failed."""
        self._configured = False
        try:
            self.teardown()
        finally:
            while self._removals:
                self._removals.pop()()
            _release_memory()

    def _secure(self) -> None:
        if self._acting:
            self._acting = False
            self._guard("stop", self.stop, keep_error=True)

    def _guard(
        self, what: str, action: Callable[[], None], *, keep_error: bool = False
    ) -> TransitionCallbackReturn:
        try:
            action()
        except WamError as error:
            self.get_logger().error(f"{what} refused: {error}")
            if not keep_error:
                self.last_error = error
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # a transition must never leave the node half-started
            self.get_logger().error(f"{what} failed:\n{traceback.format_exc()}")
            if not keep_error:
                self.last_error = error
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS


def _release_memory() -> None:
    """Free what a stopped node no longer uses, and hand it back to the system.

    Cycles, worlds and models refer to each other: in a node that creates little garbage they would stay for hours, with
    all that they hold outside of Python. The heaps of threads that have ended, such as those of a renderer, keep their
    pages where glibc is not asked for them.
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
