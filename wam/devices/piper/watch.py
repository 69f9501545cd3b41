# SPDX-License-Identifier: Apache-2.0
"""A Piper arm as the driver node and `wam doctor` watch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wam.devices.following import Following
from wam.devices.piper.arm import PiperArm, PiperStatus, Request, read_status
from wam.devices.piper.generations import (
    MIN_STAMPS,
    Generation,
    driver_of,
    in_folder,
    kind_of_stamps,
    recognise,
)
from wam.devices.state import DriverState, Readiness, Step, person
from wam.devices.watch import Drives, Heard, Seen, StatusFeed, Watch, status_unseen
from wam.robots.description import GripperOnEnable, JointGroup

STAMPS_LOOKED_AT = 3 * MIN_STAMPS
GATE_PARAMETER = "control_enabled"
PARAMETERS = (
    *("can_port", "girpper_exist", "gripper_exist", "effector_type"),
    *("speed_percent", "fast_mode", GATE_PARAMETER),
)


class PiperWatch(Watch):
    """One arm; it is its own `Drives`.

    Args:
        group: the arm's joint group; its state topic tells the family of its driver.
    """

    def __init__(self, group: JointGroup) -> None:
        super().__init__(group)
        topics, self._folder = driver_of(group.state_topic)
        may_close = group.gripper_on_enable is GripperOnEnable.MAY_CLOSE
        self.arm = PiperArm(group.name, topics, may_close=may_close)
        self._following = Following(group)
        self._names: tuple[str, ...] = ()
        self._stamps: list[int] = []
        self._given: dict[str, Any] = {}
        self.generation: Generation | None = None

    @property
    def following(self) -> Following:
        """Compares commands with joint states: older drivers publish old angles as new ones."""
        return self._following

    @property
    def found(self) -> str:
        """Which generation of its driver runs, as far as its joint states tell."""
        given = ", ".join(f"{name} {value}" for name, value in self._given.items())
        told = f" (started with {given})" if given else ""
        if self.generation is not None:
            return self.generation.text + told
        if len(self._stamps) < MIN_STAMPS:
            return ""
        stamps = kind_of_stamps(self._stamps)
        return (
            f"{self.arm.topics.package} of no known generation: joints {', '.join(self._names)}, "
            f"stamps of {stamps.value}{told}"
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """Both spellings of the gripper's parameter, and what decides how agx_arm_ros treats commands."""
        return PARAMETERS

    def on_parameters(self, values: Mapping[str, Any]) -> None:
        """Take what the driver's node was started with."""
        self._given = dict(values)

    @property
    def feeds(self) -> tuple[StatusFeed, ...]:
        """The arm's status."""
        topics = self.arm.topics
        return (StatusFeed(topics.status_type, in_folder(self._folder, topics.status), _values),)

    @property
    def folder(self) -> str:
        """Namespace of the arm's driver node."""
        return self._folder

    @property
    def drives(self) -> Drives:
        """The arm's drives."""
        return self

    @property
    def warning(self) -> str:
        """What switching the drives on does beside that."""
        return self.arm.warning

    @property
    def forbidden(self) -> str:
        """Why the drives must not be switched on, or ""."""
        return self.arm.forbidden

    def on_joint_state(self, heard: Heard) -> None:
        """Take a joint state: a stamp that stands still is a lost CAN bus, and a few of them tell the generation."""
        if heard.positions is not None and heard.stamp_ns != self.arm.stamp_ns:
            self._following.measured(heard.positions, heard.now_ns)
        self.arm.on_joint_state(heard.stamp_ns, heard.now_ns)
        if not heard.names:
            return
        if heard.names != self._names:
            self._names, self._stamps, self.generation = heard.names, [], None
        if len(self._stamps) < STAMPS_LOOKED_AT and heard.stamp_ns not in self._stamps:
            self._stamps.append(heard.stamp_ns)
            self.generation = recognise(self.arm.topics, self._names, kind_of_stamps(self._stamps))

    def deaf(self, seen: Seen) -> str:
        """Return why the arm does not follow: silent joints, a person who teaches it, or a lost bus."""
        fault = self.arm.fault(_status(seen.values)) if seen.values else None
        if fault is not None and not fault.commandable:
            return fault.text
        return self.arm.lost_bus(seen.now_ns)

    def state(self, seen: Seen) -> DriverState:
        """Return the state of the arm."""
        arm, values = self.arm, seen.values
        if values:
            arm.on_status(_status(values))
        why = self._following.why
        if why and not arm.enabling:
            arm.on_disabled()
        state = arm.state(seen.now_ns)
        if state.readiness >= Readiness.BLOCKED:
            return state
        if why and not arm.enabling:
            check = person("check the arm's power, cables and CAN adapter, then its driver's log")
            return DriverState(
                Readiness.BLOCKED,
                "not_following",
                f"{arm.name} does not follow: {why}",
                (person("support the arm: without drives it sinks", moves=True), check, *state.steps),
            )
        if seen.lacking and arm.untold:
            return status_unseen(seen.lacking)
        if self._given.get(GATE_PARAMETER) is False:
            return DriverState(
                Readiness.WAITING,
                "gate_closed",
                f"the driver of {arm.name} was started with a closed gate ({GATE_PARAMETER} false): it drops commands",
                state.steps or arm.calls[-1:],
            )
        if state.code == "not_enabled" and values.get("ctrl_mode") == 1 and not arm.disabled:
            # `wam doctor` only listens and cannot enable the drives; commands to an enabled arm switch it to CAN mode.
            return DriverState(Readiness.READY, "can_mode", f"{arm.name} is in CAN mode without a fault")
        return state

    @property
    def enabling(self) -> bool:
        """Whether the drives are being switched on."""
        return self.arm.enabling

    def enable(self, now_ns: int) -> None:
        """Begin to switch the drives on, for at most 5 s."""
        self.arm.enable(now_ns)

    def due(self, now_ns: int) -> Step | None:
        """Return the service call that is due, or None; also notices a lost bus."""
        return self.arm.call if self.arm.step(now_ns) is Request.ENABLE else None

    def on_enabled(self) -> None:
        """Take that the service said yes."""
        self.arm.on_enabled(True)
        self._following.forgive()

    def on_refused(self, why: str) -> None:
        """Take why the service could not be called, or said no; it is called again until the time is over."""
        self.arm.on_refused(why)

    def on_recovered(self, steps: Sequence[Step]) -> None:
        """Take the steps of a recovery: drives and gate that were among them are on."""
        if all(call in steps for call in self.arm.calls):
            self.arm.on_recovered()
            self._following.forgive()


def _status(values: Mapping[str, Any]) -> PiperStatus:
    return PiperStatus(
        values["arm_status"],
        values["ctrl_mode"],
        tuple(values["limited_joints"]),
        tuple(values["silent_joints"]),
    )


def _values(message: Any) -> Mapping[str, Any]:
    status = read_status(message)
    return {
        "arm_status": status.arm_status,
        "ctrl_mode": status.ctrl_mode,
        "limited_joints": status.limited_joints,
        "silent_joints": status.silent_joints,
    }
