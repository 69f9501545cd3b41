# SPDX-License-Identifier: Apache-2.0
"""The Franka Hand: its actions block, a new goal does not end the old one, and widths come whole or halved.

    GripperCommand.position (goal)       half the opening
    GripperCommand feedback and result   the whole opening
    Move.width, Grasp.width              the whole opening
    franka_gripper/joint_states          half the opening on each of two fingers; velocity and effort always 0

Source: franka_ros2, franka_gripper.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

from wam.devices.adapter import Cancel
from wam.devices.gripper import Discretiser, Side
from wam.devices.state import DriverState, Readiness, action, person

MAX_WIDTH = 0.08
"""Opening of the Franka Hand [m]."""
MAX_FORCE = 70.0
"""Continuous force [N] (data sheet)."""


class GripperApi(enum.Enum):
    """Which actions are used."""

    FRANKA = "franka"  # franka_msgs/Move and Grasp: width, speed and force of our choice
    COMMAND = "command"  # control_msgs/GripperCommand: works with other grippers too


@dataclass(frozen=True, slots=True)
class HandGoal:
    """A goal to send; fields that its action does not have are NaN.

    Attributes:
        side: what it is for.
        name: action, relative to the gripper's node: "move", "grasp" or "gripper_action".
        width: whole opening [m] (move, grasp).
        speed: [m/s] (move, grasp).
        force: [N] (grasp); `max_effort` of gripper_action.
        epsilon: how far the width may be from the goal for a grasp to count [m] (grasp).
        position: half the opening [m] (gripper_action).
    """

    side: Side
    name: str
    width: float = math.nan
    speed: float = math.nan
    force: float = math.nan
    epsilon: float = math.nan
    position: float = math.nan


def opening_of(names: Sequence[str], positions: Sequence[float]) -> float:
    """Return the opening [m] from franka_gripper/joint_states, NaN when it holds no pair of fingers."""
    fingers = [p for name, p in zip(names, positions, strict=False) if "finger_joint" in name]
    return sum(fingers) if len(fingers) == 2 else math.nan


class FrankaGripper:
    """Turns openings into goals, one at a time. Called from one thread.

    Args:
        discretiser: hysteresis and dwell.
        api: which actions are used.
        speed: of the fingers [m/s].
        force: of a grasp [N].

    Raises:
        ValueError: speed or force is out of range.
    """

    def __init__(
        self,
        discretiser: Discretiser,
        *,
        api: GripperApi = GripperApi.FRANKA,
        speed: float = 0.1,
        force: float = 30.0,
    ) -> None:
        if not 0.0 < speed <= 0.2 or not 0.0 < force <= MAX_FORCE:
            raise ValueError(f"speed {speed} m/s (0 .. 0.2), force {force} N (0 .. {MAX_FORCE})")
        self._discretiser, self._api, self._speed, self._force = discretiser, api, speed, force
        self._waiting: Side | None = None  # ordered, not sent yet
        self._in_flight: Side | None = None
        self._cancelling = False
        self._problem = ""
        self.goals = 0

    def seed(self, measured: float) -> None:
        """Take the measured opening [m]."""
        self._discretiser.seed(measured)
        self._waiting = None

    def step(self, opening: float, now_ns: int) -> HandGoal | Cancel | None:
        """Return what to do now for a wanted opening [m]."""
        side = self._discretiser.step(opening, now_ns)
        if side is not None:
            self._waiting = side
        if self._waiting is None:
            return None
        if self._in_flight is not None:
            if self._in_flight is self._waiting:
                self._waiting = None
                return None
            if self._cancelling:
                return None
            self._cancelling = True
            return Cancel.CANCEL
        self._in_flight, self._waiting = self._waiting, None
        self.goals += 1
        return self._goal(self._in_flight)

    def finished(self, ok: bool, reason: str = "") -> None:
        """Take how the goal in flight ended: reached, refused, failed or cancelled."""
        was_cancelled, side = self._cancelling, self._in_flight
        self._in_flight, self._cancelling = None, False
        if ok or was_cancelled or side is None:
            self._problem = ""
        else:
            self._problem = f"{side.value}: {reason or 'no reason given'}"

    def state(self, *, server_seen: bool) -> DriverState:
        """Return the state of the gripper."""
        if not server_seen:
            return DriverState(
                Readiness.ABSENT,
                "gripper_no_action",
                "the gripper's actions are not offered",
                (
                    person(
                        "start the driver with load_gripper:=true; with fake hardware there are no gripper actions"
                    ),
                    person(
                        "compare the gripper's node name with the robot file: franka_gripper, not fr3_gripper"
                    ),
                ),
            )
        if self._problem:
            return DriverState(
                Readiness.DEGRADED,
                "gripper_goal_failed",
                f"the last goal failed: {self._problem}",
                (
                    person("take out what is between the fingers"),
                    action("franka_gripper/homing", "home the gripper", type="franka_homing", moves=True),
                ),
            )
        return DriverState(Readiness.READY, "gripper_ready", "the gripper takes goals")

    def _goal(self, side: Side) -> HandGoal:
        if self._api is GripperApi.COMMAND:
            half = MAX_WIDTH / 2 if side is Side.OPEN else 0.0
            return HandGoal(side, "gripper_action", position=half, force=self._force)
        if side is Side.OPEN:
            return HandGoal(side, "move", width=MAX_WIDTH, speed=self._speed)
        # Whatever is grasped is a success: the policy decides what to do with it, not the width.
        return HandGoal(side, "grasp", width=0.0, speed=self._speed, force=self._force, epsilon=MAX_WIDTH)
