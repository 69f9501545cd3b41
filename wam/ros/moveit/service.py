# SPDX-License-Identifier: Apache-2.0
"""`RemoteChecker` (b): `/check_state_validity` of a running move_group."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.errors import MissingDependency
from wam.core.safety.collision import CheckerAnswer, CheckerSilent, Contact
from wam.robots.collision import ModelJoints

Rows = npt.NDArray[np.float64]

SERVICE = "check_state_validity"
MAX_STATES = 12
"""States asked for per chunk: a call takes milliseconds, so of more states every second (third, ...) is asked for."""


class ServiceChecker:
    """Asks move_group about the states of a chunk, all calls at once; neither method blocks.

    Args:
        client: rclpy client of `moveit_msgs/srv/GetStateValidity`; its responses arrive in another thread.
        make_request: makes a request for positions of the URDF's joints, float64 [M].
        joints: joints of the URDF from those of the robot.
        max_states: states asked for per chunk.
    """

    name = "MoveIt (move_group)"

    def __init__(
        self,
        client: Any,
        make_request: Callable[[npt.NDArray[np.float64]], Any],
        joints: ModelJoints,
        *,
        max_states: int = MAX_STATES,
    ) -> None:
        self._client = client
        self._make_request = make_request
        self._joints = joints
        self._max_states = max_states
        self._lock = threading.Lock()
        self._sequence = 0
        self._open: set[int] = set()
        self._contact: Contact | None = None
        self._failed = ""

    def submit(self, states: Rows) -> None:
        """Ask for the states, float64 [S, N]; see `RemoteChecker.submit`.

        Raises:
            CheckerSilent: move_group is not running.
        """
        if not self._client.service_is_ready():
            raise CheckerSilent(
                f"no server of {SERVICE}", where="start move_group, or set the parameter `moveit` to off"
            )
        stride = -(-len(states) // self._max_states)
        chosen = list(range(0, len(states), stride))
        if chosen[-1] != len(states) - 1:
            chosen.append(len(states) - 1)
        rows = self._joints.positions(states[chosen])
        with self._lock:
            self._sequence += 1
            sequence = self._sequence
            self._open, self._contact, self._failed = set(chosen), None, ""
        for index, row in zip(chosen, rows, strict=True):
            future = self._client.call_async(self._make_request(row))
            future.add_done_callback(lambda done, index=index: self._store(sequence, index, done))

    def poll(self) -> CheckerAnswer | None:
        """Return the answer once every call was answered, or None; see `RemoteChecker.poll`.

        Raises:
            CheckerSilent: a call failed.
        """
        with self._lock:
            if self._failed:
                raise CheckerSilent(f"{SERVICE} failed: {self._failed}")
            if self._open:
                return None
            return CheckerAnswer(self._contact)

    def close(self) -> None:
        """Discard the pending calls."""
        with self._lock:
            self._sequence += 1
            self._open = set()

    def _store(self, sequence: int, index: int, future: Any) -> None:
        with self._lock:
            if sequence != self._sequence:
                return
            self._open.discard(index)
            error = future.exception()
            if error is not None:
                self._failed = f"{type(error).__name__}: {error}"
                return
            response = future.result()
            if response.valid or (self._contact is not None and self._contact.index <= index):
                return
            bodies = ("robot", "planning scene")
            if response.contacts:
                bodies = (response.contacts[0].contact_body_1, response.contacts[0].contact_body_2)
            self._contact = Contact(index, *bodies, math.nan, math.nan)


def make_service_checker(node: Any, joints: ModelJoints, *, group: str) -> ServiceChecker:
    """Return a checker that calls move_group through `node`.

    Raises:
        MissingDependency: moveit_msgs is not installed.
    """
    try:
        from moveit_msgs.srv import GetStateValidity
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("moveit_msgs"):
            raise
        raise MissingDependency(
            "moveit_msgs is not installed",
            where="a ROS 2 distribution: apt install ros-$ROS_DISTRO-moveit-msgs",
        ) from None

    def make_request(row: npt.NDArray[np.float64]) -> Any:
        request = GetStateValidity.Request()
        request.group_name = group
        request.robot_state.joint_state.name = list(joints.names)
        request.robot_state.joint_state.position = row.tolist()
        # The rest (attached objects, other joints) is what the planning scene monitor knows.
        request.robot_state.is_diff = True
        return request

    return ServiceChecker(node.create_client(GetStateValidity, SERVICE), make_request, joints)
