# SPDX-License-Identifier: Apache-2.0
"""A device behind its vendor's driver: watched, switched on where that is needed, and recovered after a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState

from wam.core.clock import Clock
from wam.core.errors import JointError
from wam.devices.state import DriverState, Step
from wam.devices.watch import Heard, Seen, Watch
from wam.robots.joint_reader import JointReader
from wam.ros.conversions import time_to_ns
from wam.ros.lifecycle import WamNode
from wam.ros.qos import COMMAND, JOINT_STATE
from wam.ros.status_feeds import StatusListener
from wam_driver_node.calls import StepCaller

STEP_PERIOD_S = 0.05
ENABLE_WAIT_S = 10.0
PROOF_S = 10.0
"""Longest wait after a recovery for the driver to report that its device follows [s]."""


class ArmShell:
    """Plumbing of one watched device; everything runs in the thread of the node's rclpy executor.

    Its commands go from the safety node to the vendor's driver directly.

    Args:
        node: owns the entities.
        watch: checks the device.
        caller: carries steps out.
        clock: present time.
        find: returns a type of `wam.devices.optional.VENDOR_TYPES`, or None.
    """

    def __init__(
        self,
        node: WamNode[Any],
        watch: Watch,
        caller: StepCaller,
        clock: Clock,
        *,
        find: Callable[[str], Any | None],
    ) -> None:
        self.watch, self.group = watch, watch.group
        self._node, self._caller, self._clock = node, caller, clock
        self._status = StatusListener(node.inputs, watch.feeds, find=find)
        self._asking = False
        self._told = ""
        self._reader = JointReader(self.group)
        self._entities: list[Callable[[], Any]] = [self._status.close]
        if watch.drives is not None:
            listener = node.inputs.listen(JointState, self.group.state_topic, self._on_state, JOINT_STATE)
            # rclpy runs coroutines as callbacks; its annotations do not say so.
            step: Any = self._step
            timer = node.create_timer(STEP_PERIOD_S, step, callback_group=caller.group)
            self._entities += [
                lambda: node.inputs.remove(listener),
                lambda: node.destroy_timer(timer),
            ]
        if watch.following is not None and self.group.command_topic:
            commands = node.inputs.listen(JointState, self.group.command_topic, self._on_command, COMMAND)
            self._entities.append(lambda: node.inputs.remove(commands))

    def state(self) -> DriverState:
        """Return the state of the device."""
        return self.watch.state(
            Seen(
                self._clock.now_ns(),
                self._status.values,
                self._status.lacking,
                published=self._node.count_publishers(self.group.state_topic) > 0,
                silent_s=self._status.silent_s,
            )
        )

    def values(self) -> dict[str, object]:
        """Return what diagnostics show."""
        found = {"driver": self.watch.found} if self.watch.found else {}
        return {**found, **self._status.values}

    async def enable(self) -> tuple[bool, str]:
        """Switch the drives on if the driver needs a request for it, and wait until they are on.

        Nothing switches them off: an arm without brakes would sink.
        """
        drives = self.watch.drives
        if drives is None:
            return True, f"{self.group.name}: {self.state().text}"
        if drives.forbidden:
            return False, drives.forbidden
        if drives.warning:
            self._node.get_logger().warning(drives.warning)
        drives.enable(self._clock.now_ns())
        await self._caller.until(lambda: not drives.enabling, ENABLE_WAIT_S)
        state = self.state()
        return state.commandable, f"{self.group.name}: {state.text}"

    async def recover(self, *, may_move: bool) -> tuple[bool, str]:
        """Carry out the steps that lead out of the present state, or out of what the driver's lists show of it.

        See `StepCaller.recover`. The answer is yes only where the driver then reports a device that follows: neither
        a status that cannot be seen nor a step left to a person proves that.
        """
        state = self.state()
        if state.commandable:
            # A list that cannot be had says nothing: a driver with mock hardware may have none.
            looked = [await self._caller.look(one, folder=self.watch.folder) for one in self.watch.standing]
            shown = "; ".join(text for asked, text in looked if asked and text)
            if not shown:
                listed = any(asked for asked, _ in looked)
                why = "" if listed or not state.unseen else _unproven(state)
                return not why, f"{self.group.name}: {why or state.text}"
            state = self.watch.fallen(shown)
        ok, text = await self._caller.recover(state.steps, folder=self.watch.folder, may_move=may_move)
        told = f"{self.group.name} ({state.code}): {text}"
        if not ok:
            return False, f"{told}; not seen: {state.unseen}" if state.unseen else told
        if self.watch.drives is not None:
            self.watch.drives.on_recovered(state.steps)
        await self._caller.until(lambda: self.state().commandable, PROOF_S)
        after = self.state()
        listed = any(step.check is not None for step in state.steps)
        if after.commandable and (listed or not after.unseen):
            return True, told
        return False, f"{told}; {_unproven(after)}"

    def close(self) -> None:
        """Remove what belongs to the device."""
        for remove in reversed(self._entities):
            remove()
        self._entities.clear()

    def _on_state(self, message: JointState) -> None:
        try:
            positions, _ = self._reader.read(message)
        except JointError:  # the safety node, which acts on it, says so
            positions = None
        stamp_ns = time_to_ns(message.header.stamp)
        self.watch.on_joint_state(Heard(stamp_ns, self._clock.now_ns(), tuple(message.name), positions))
        if self.watch.found != self._told:
            self._told = self.watch.found
            self._node.get_logger().info(f"{self.group.name}: {self._told}")

    def _on_command(self, message: JointState) -> None:
        following = self.watch.following
        if following is not None and len(message.position) == len(self.group.joints):
            following.commanded(
                np.asarray(message.position) / self.group.command_factors, self._clock.now_ns()
            )

    async def _step(self) -> None:
        drives = self.watch.drives
        if drives is None or self._asking:
            return
        step = drives.due(self._clock.now_ns())
        if step is None:
            return
        self._asking = True
        try:
            ok, text = await self._caller.carry_out(step, folder=self.watch.folder)
        finally:
            self._asking = False
        if ok:
            drives.on_enabled()
        elif text:
            drives.on_refused(text)


def _unproven(state: DriverState) -> str:
    """Return that a device is not proven to follow, why, and what a person does about it."""

    def named(step: Step) -> str:
        return f"{step.text} ({step.name})" if step.name else step.text

    told = f"not proven to follow: {state.text}"
    if state.unseen and state.unseen not in state.text:
        told += f"; {state.unseen}"
    steps = ", then ".join(named(step) for step in state.steps)
    return f"{told}; by hand: {steps}" if steps else told
