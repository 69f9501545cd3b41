# SPDX-License-Identifier: Apache-2.0
"""A two-sided gripper behind ROS actions: a stream of openings in, one goal at a time out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from action_msgs.msg import GoalStatus
from sensor_msgs.msg import JointState

from wam.core.errors import MissingDependency
from wam.devices.adapter import Cancel, GoalAdapter, GoalDevice, GoalSettings
from wam.devices.channel import TrajectoryChannel
from wam.devices.optional import VENDOR_TYPES, find_type
from wam.devices.state import DriverState, Readiness, service
from wam.robots.description import JointGroup
from wam.ros.action_client import SpunActionClient
from wam.ros.qos import JOINT_STATE


def action_types(adapter: GoalAdapter, settings: GoalSettings) -> dict[str, Any]:
    """Return the types of the actions that a gripper uses: action name -> class.

    Raises:
        MissingDependency: their package is not installed.
    """
    keys = adapter.actions(settings)
    found = {name: find_type(key) for name, key in keys.items()}
    lacking = sorted({VENDOR_TYPES[keys[name]][0] for name, one in found.items() if one is None})
    if lacking:
        package = ", ".join(lacking)
        raise MissingDependency(
            f"the gripper's actions need {package}, which is not installed",
            allowed="a ROS 2 distribution with the gripper's driver",
            where=f"the installation of {package}, or the parameter `gripper_api` (franka or command)",
        )
    return found


class GripperShell:
    """Plumbing of one gripper; everything runs in the thread of the node's rclpy executor.

    Args:
        node: owns the entities.
        group: the gripper's joint group, with one joint.
        adapter: of its kind of device.
        gripper: decides which goal is due.
        types: action name -> action type.
        fill: writes a goal into its message; None takes the adapter's.
    """

    def __init__(
        self,
        node: Any,
        group: JointGroup,
        adapter: GoalAdapter,
        gripper: GoalDevice,
        types: Mapping[str, Any],
        *,
        fill: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self.group, self.write_enabled = group, False
        self._node, self._gripper, self._types = node, gripper, types
        self._adapter, self._fill = adapter, fill or adapter.fill
        self._channel = TrajectoryChannel(group.driver_names)
        self._measured = math.nan
        self._seeded = False
        self._handle: Any = None
        self._cancel_wanted = False
        folder = group.state_topic.rpartition("/")[0]
        self._clients: dict[str, Any] = {
            name: SpunActionClient(node, kind, f"{folder}/{name}" if folder else name)
            for name, kind in types.items()
        }
        self._listener = node.inputs.listen(JointState, group.state_topic, self._store, JOINT_STATE)

    def offer_positions(self, names: Sequence[str], positions: Sequence[float], *, stamp_ns: int) -> None:
        """Take one row of a stream.

        Raises:
            JointError: it is invalid; the previous command is kept.
        """
        self._channel.offer(names, [0], [positions], start_ns=stamp_ns)

    def offer_trajectory(
        self,
        names: Sequence[str],
        times_ns: Sequence[int],
        positions: Sequence[Sequence[float]],
        *,
        start_ns: int,
    ) -> None:
        """Take a rolling trajectory.

        Raises:
            JointError: it is invalid; the previous command is kept.
        """
        self._channel.offer(names, times_ns, positions, start_ns=start_ns)

    def hold(self) -> None:
        """Discard the command; the gripper keeps its position."""
        self._channel.hold()

    def enable(self, on: bool) -> DriverState:
        """Allow or forbid goals."""
        if on and not self.write_enabled:
            self._channel.hold()
            self._seeded = False
        self.write_enabled = on
        return self.state()

    def step(self, now_ns: int) -> None:
        """Send or cancel a goal where one is due; nothing is sent before the fingers have been measured."""
        target = self._channel.target(now_ns)
        if target is None or not self.write_enabled or math.isnan(self._measured):
            return
        if not self._seeded:
            self._gripper.seed(self._measured)
            self._seeded = True
        if not all(client.server_is_ready() for client in self._clients.values()):
            return
        due = self._gripper.step(self._adapter.target_factor * float(target[0]), now_ns)
        if due is None:
            return
        if isinstance(due, Cancel):
            self._cancel_wanted = True
            if self._handle is not None:
                self._handle.cancel_goal_async()
            return
        self._cancel_wanted = False
        message = self._fill(due, self._types[due.name].Goal())
        self._clients[due.name].send_goal_async(message).add_done_callback(self._answered)

    def state(self) -> DriverState:
        """Return the state of the gripper."""
        state = self._gripper.state(server_seen=all(c.server_is_ready() for c in self._clients.values()))
        if state.readiness is Readiness.READY and not self.write_enabled:
            return DriverState(
                Readiness.WAITING,
                "gripper_write_disabled",
                "the gripper is read only",
                (service("~/enable", "allow goals (std_srvs/SetBool true)", moves=True),),
            )
        return state

    def values(self) -> dict[str, object]:
        """Return what diagnostics show."""
        return {
            "opening [m]": f"{self._measured:.4f}",
            "goals": self._gripper.goals,
            "write_enabled": self.write_enabled,
        }

    def close(self) -> None:
        """Remove clients and subscription."""
        for client in self._clients.values():
            client.destroy()
        self._node.inputs.remove(self._listener)

    def _store(self, message: JointState) -> None:
        opening = self._adapter.opening(message.name, message.position)
        if math.isfinite(opening):
            self._measured = opening

    def _answered(self, future: Any) -> None:
        handle = future.result()
        if not handle.accepted:
            self._gripper.finished(False, "the goal was refused")
            return
        self._handle = handle
        handle.get_result_async().add_done_callback(partial(self._ended, handle))
        if self._cancel_wanted:
            # The cancel request came before there was a goal handle.
            handle.cancel_goal_async()

    def _ended(self, handle: Any, future: Any) -> None:
        if self._handle is handle:
            self._handle = None
        answer = future.result()
        succeeded = answer.status == GoalStatus.STATUS_SUCCEEDED and getattr(answer.result, "success", True)
        self._gripper.finished(
            bool(succeeded), str(getattr(answer.result, "error", "")) or f"status {answer.status}"
        )
