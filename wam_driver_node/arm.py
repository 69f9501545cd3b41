# SPDX-License-Identifier: Apache-2.0
"""An arm behind its vendor's driver: watched, enabled where it has to be, and led back after a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import JointState

from wam.core.clock import Clock
from wam.devices.doctor import judge_piper, judge_vendor
from wam.devices.franka import arm as franka
from wam.devices.piper.arm import PiperArm, Request, driver_of, enable_step
from wam.devices.state import DriverState, Readiness
from wam.devices.ur import arm as ur
from wam.robots.description import JointGroup
from wam.ros.conversions import time_to_ns
from wam.ros.qos import JOINT_STATE
from wam_driver_node.calls import StepCaller
from wam_driver_node.vendor import VendorEar

WATCHED = ("piper", "franka", "ur")
"""Drivers of arms that this node watches; their commands go from the safety node to the driver directly."""
STEP_PERIOD_S = 0.05
SILENT_S = 1.0
"""A robot state that has not come for so long counts for nothing [s]."""


class ArmShell:
    """Plumbing of one arm; everything runs in the thread of the node's rclpy executor.

    Args:
        node: owns the entities.
        group: the arm's joint group.
        caller: carries steps out.
        clock: present time.
        find: returns a type of `wam.devices.optional.VENDOR_TYPES`, or None.
    """

    def __init__(
        self,
        node: Any,
        group: JointGroup,
        caller: StepCaller,
        clock: Clock,
        *,
        find: Callable[[str], Any | None],
    ) -> None:
        self.group = group
        self._node, self._caller, self._clock = node, caller, clock
        self._ear = VendorEar(node, group, find=find)
        self._piper: PiperArm | None = None
        self._folder = ""
        self._asking = False
        self._entities: list[Callable[[], Any]] = [self._ear.close]
        if group.driver == "piper":
            topics, self._folder = driver_of(group.state_topic)
            self._piper = PiperArm(group.name, topics)
            listener = node.create_subscription(JointState, group.state_topic, self._on_state, JOINT_STATE)
            timer = node.create_timer(STEP_PERIOD_S, self._step, callback_group=caller.group)
            self._entities += [
                lambda: node.destroy_subscription(listener),
                lambda: node.destroy_timer(timer),
            ]

    def state(self) -> DriverState:
        """Return the state of the arm."""
        values, lacking = self._ear.values, self._ear.lacking
        if self._piper is not None:
            return judge_piper(self._piper, self._clock.now_ns(), values, lacking)
        there = self._node.count_publishers(self.group.state_topic) > 0
        if self.group.driver == "ur":
            return judge_vendor(self.group, values, lacking) if there else ur.assess(ur.UrSample(False))
        if not there or (values and self._ear.silent_s > SILENT_S):
            return franka.assess(None)
        return judge_vendor(self.group, values, lacking)

    def values(self) -> dict[str, object]:
        """Return what diagnostics show."""
        return dict(self._ear.values)

    async def enable(self) -> tuple[bool, str]:
        """Switch the drives on where the driver has to be asked for it, and wait until they are.

        Nothing switches them off: an arm without brakes sinks.
        """
        arm = self._piper
        if arm is None:
            return True, f"{self.group.name}: {self.state().text}"
        arm.enable(self._clock.now_ns())
        await self._caller.until(lambda: not arm.enabling, 10.0)
        state = self.state()
        return state.commandable, f"{self.group.name}: {state.text}"

    async def recover(self, *, may_move: bool) -> tuple[bool, str]:
        """Carry out the steps that lead out of the present state; see `StepCaller.recover`."""
        state = self.state()
        if state.readiness <= Readiness.DEGRADED:
            return True, f"{self.group.name}: {state.text}"
        ok, text = await self._caller.recover(state.steps, folder=self._folder, may_move=may_move)
        return ok, f"{self.group.name} ({state.code}): {text}"

    def close(self) -> None:
        """Remove what belongs to the arm."""
        for remove in reversed(self._entities):
            remove()
        self._entities.clear()

    def _on_state(self, message: JointState) -> None:
        if self._piper is not None:
            self._piper.on_joint_state(time_to_ns(message.header.stamp), self._clock.now_ns())

    async def _step(self) -> None:
        arm = self._piper
        if arm is None or arm.step(self._clock.now_ns()) is not Request.ENABLE or self._asking:
            return
        self._asking = True
        try:
            ok, text = await self._caller.carry_out(enable_step(arm.topics), folder=self._folder)
        finally:
            self._asking = False
        if ok:
            arm.on_enabled(True)
        elif text:
            arm.on_refused(text)
