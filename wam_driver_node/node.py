# SPDX-License-Identifier: Apache-2.0
"""The driver node: plumbing between ROS and devices by address (`DeviceCycle`), grippers and watched arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from wam.core.clock import seconds_to_ns
from wam.core.errors import ConfigError, JointError
from wam.devices.adapter import AdapterSettings, AddressedAdapter, DeviceCycle, GoalAdapter, GoalSettings
from wam.devices.loader import load_robot
from wam.devices.optional import find_type
from wam.devices.registry import KINDS, kind_of
from wam.devices.reported import STATUS_TASK, report
from wam.devices.state import Readiness, worst
from wam.robots.description import CommandKind, JointGroup, RobotDescription
from wam.ros.conversions import duration_to_ns, ns_to_time, time_to_ns
from wam.ros.diagnostics import DiagnosticLevel, Diagnostics
from wam.ros.lifecycle import WamNode
from wam.ros.qos import COMMAND, JOINT_STATE_PUBLISHER
from wam.ros.timers import steady_timer
from wam.ros.worker import Worker
from wam_driver_node.arm import ArmShell
from wam_driver_node.calls import StepCaller
from wam_driver_node.gripper import GripperShell, action_types
from wam_driver_node.parameters import DriverParameters

REPORT_PERIOD_S = 0.5
STOP_TIMEOUT_S = 3.0
GRIPPER_PERIOD_S = 0.02
NO_HANDS = ("mock",)
"""Default of `devices`, which a robot without hands need not change."""
Device = DeviceCycle | GripperShell
LEVELS = {
    Readiness.READY: DiagnosticLevel.OK,
    Readiness.DEGRADED: DiagnosticLevel.WARN,
    Readiness.WAITING: DiagnosticLevel.WARN,
    Readiness.BLOCKED: DiagnosticLevel.ERROR,
    Readiness.ABSENT: DiagnosticLevel.ERROR,
}


class DriverNode(WamNode[DriverParameters]):
    """Lifecycle node `wam_driver`: joint states and commands of a robot's hands, goals of its grippers, and the state
    of its arms, with recovery after a fault.

    Args:
        find: returns a vendor's type by its key in `wam.devices.optional.VENDOR_TYPES`, or None.
        caller: creates the object that performs recovery steps.
        gripper_types: action name -> type, in place of those of the gripper's own message package.
        fill: writes a goal into such a type.
        node_args: passed to the lifecycle node.
    """

    def __init__(
        self,
        *,
        find: Callable[[str], Any | None] = find_type,
        caller: Callable[..., StepCaller] = StepCaller,
        gripper_types: Mapping[str, Any] | None = None,
        fill: Callable[[Any, Any], Any] | None = None,
        **node_args: Any,
    ) -> None:
        super().__init__("wam_driver", DriverParameters, **node_args)
        self.cycles: list[DeviceCycle] = []
        self.grippers: list[GripperShell] = []
        self.arms: list[ArmShell] = []
        self._find, self._caller = find, caller(self, find=find)
        self._recovering = False
        self._state_topics: list[Any] = []
        self._gripper_types, self._fill = gripper_types, fill
        self._worker: Worker | None = None
        self._diagnostics: Diagnostics | None = None
        self._entities: list[Callable[[], Any]] = []
        self._fault = ""
        self._refused: dict[str, str] = {}

    def setup(self) -> None:
        """Make the hands, grippers and arms, then the topics."""
        p = self.p
        robot = load_robot(p.robot)
        self.cycles = self._make_cycles(robot)
        for group in robot.groups:
            kind = kind_of(group)
            if isinstance(kind.adapter, GoalAdapter):
                self.grippers.append(self._make_gripper(group, kind.adapter))
            if kind.watch is not None:
                arm = ArmShell(self, kind.watch(group), self._caller, self.clock, find=self._find)
                self.arms.append(arm)
        self._diagnostics = Diagnostics(self, task=STATUS_TASK, hardware_id=robot.name)
        self._entities.append(self._diagnostics.close)
        for cycle in self.cycles:
            self._publish_states(cycle)
        for device in self._devices():
            self._listen(device)
        if self.grippers:
            ticker = self.create_timer(GRIPPER_PERIOD_S, self._step_grippers)
            self._entities.append(partial(self.destroy_timer, ticker))
        for kind, name, answer in (
            (SetBool, "~/enable", self._enable),
            (Trigger, "~/recover", self._recover),
            (Trigger, "~/clear_errors", self._clear),
            (Trigger, "~/calibrate_force", self._calibrate),
        ):
            served = self.create_service(kind, name, answer, callback_group=self._caller.group)
            self._entities.append(partial(self.destroy_service, served))
        timer = steady_timer(self, REPORT_PERIOD_S, self._report)
        self._entities.append(partial(self.destroy_timer, timer))

    def start(self) -> None:
        """Start reading, and writing where that is allowed."""
        self._fault = ""
        self._refused.clear()
        self._worker = Worker("hands", self._step, period=1.0 / self.p.rate, on_error=self._on_error)
        self._worker.start()

    def stop(self) -> None:
        """Stop; the hands hold their last target."""
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stop(timeout=STOP_TIMEOUT_S):
            self.get_logger().error(f"the hands' thread did not end within {STOP_TIMEOUT_S} s")
        for device in self._devices():
            device.hold()

    def teardown(self) -> None:
        """Close the links and remove the topics."""
        for device in (*self._devices(), *self.arms):
            device.close()
        for remove in reversed(self._entities):
            remove()
        self.cycles, self.grippers, self.arms = [], [], []
        self._state_topics, self._entities, self._diagnostics = [], [], None

    def _devices(self) -> list[Device]:
        return [*self.cycles, *self.grippers]

    def _make_cycles(self, robot: RobotDescription) -> list[DeviceCycle]:
        """Return the devices that this node reaches by an address, e.g. hands.

        Raises:
            ConfigError: `devices` does not fit the robot's hands, or a parameter does not fit them.
        """
        p = self.p
        adapters = {group.name: kind_of(group).adapter for group in robot.groups}
        groups = [group for group in robot.groups if isinstance(adapters[group.name], AddressedAdapter)]
        given = () if not groups and p.devices == NO_HANDS else p.devices
        name = self.get_fully_qualified_name()
        if len(groups) != len(given):
            kinds = ", ".join(one.name for one in KINDS.values() if isinstance(one.adapter, AddressedAdapter))
            raise ConfigError(
                "parameter devices does not fit the robot's hands",
                value=", ".join(given),
                allowed=f"one for each group with driver {kinds}: {[group.name for group in groups]}",
                where=f"the parameter `devices` of {name}, or {robot.source}",
            )
        settings = AdapterSettings(
            write_enabled=p.write_enabled,
            rate=p.rate,
            speed=p.speed,
            force=p.force,
            temperature_limit=p.temperature_limit,
            dead_band=p.dead_band,
            where=name,
        )
        cycles: list[DeviceCycle] = []
        for driver in dict.fromkeys(group.driver for group in groups):
            own = [pair for pair in zip(groups, given, strict=True) if pair[0].driver == driver]
            adapter = kind_of(own[0][0]).adapter
            assert isinstance(adapter, AddressedAdapter)
            cycles += adapter.make([group for group, _ in own], [text for _, text in own], settings)
        return cycles

    def _make_gripper(self, group: JointGroup, adapter: GoalAdapter) -> GripperShell:
        p = self.p
        settings = GoalSettings(
            api=p.gripper_api,
            force=p.gripper_force,
            close_below=p.gripper_close_below,
            open_above=p.gripper_open_above,
            dwell_ns=seconds_to_ns(p.gripper_dwell),
            where=self.get_fully_qualified_name(),
        )
        gripper = adapter.make(settings)
        types = self._gripper_types or action_types(adapter, settings)
        shell = GripperShell(self, group, adapter, gripper, types, fill=self._fill)
        shell.write_enabled = p.write_enabled
        return shell

    def _step_grippers(self) -> None:
        if self._worker is not None:
            for gripper in self.grippers:
                gripper.step(self.clock.now_ns())

    def _publish_states(self, cycle: DeviceCycle) -> None:
        group = cycle.group
        publisher = self.create_lifecycle_publisher(JointState, group.state_topic, JOINT_STATE_PUBLISHER)
        self._state_topics.append(publisher)
        self._entities.append(partial(self.destroy_lifecycle_publisher, publisher))

    def _listen(self, device: Device) -> None:
        group = device.group
        stream = group.command_kind is CommandKind.JOINT_STATE_STREAM
        kind, store = (JointState, self._store_state) if stream else (JointTrajectory, self._store_trajectory)
        listener = self.inputs.listen(kind, group.command_topic, partial(store, device), COMMAND)
        self._entities.append(partial(self.inputs.remove, listener))

    def _store_state(self, cycle: Device, message: JointState) -> None:
        if self._sole_publisher(cycle.group):
            self._offer(
                cycle,
                lambda: cycle.offer_positions(message.name, message.position, stamp_ns=self.clock.now_ns()),
            )

    def _store_trajectory(self, cycle: Device, message: JointTrajectory) -> None:
        if self._sole_publisher(cycle.group):
            stamp_ns = time_to_ns(message.header.stamp)
            self._offer(
                cycle,
                lambda: cycle.offer_trajectory(
                    message.joint_names,
                    [duration_to_ns(point.time_from_start) for point in message.points],
                    [point.positions for point in message.points],
                    start_ns=stamp_ns or self.clock.now_ns(),
                ),
            )

    def _sole_publisher(self, group: JointGroup) -> bool:
        if self._worker is None:
            return False
        count = self.count_publishers(group.command_topic)
        if count > 1:
            self._refuse(
                group.name, f"{count} publishers on {group.command_topic}; only wam_safety may be one"
            )
        return count <= 1

    def _offer(self, cycle: Device, offer: Callable[[], None]) -> None:
        try:
            offer()
        except JointError as error:
            self._refuse(cycle.group.name, str(error))
        else:
            self._refused.pop(cycle.group.name, None)

    def _refuse(self, group: str, reason: str) -> None:
        if group not in self._refused:
            self.get_logger().error(f"command for {group} refused: {reason}")
        self._refused[group] = reason
        for device in self._devices():
            if device.group.name == group:
                device.hold()

    def _step(self) -> None:
        for cycle, publisher in zip(self.cycles, self._state_topics, strict=True):
            state = cycle.step(self.clock.now_ns())
            if state is None:
                continue
            message = JointState(
                name=list(state.names), position=list(state.positions), effort=list(state.efforts)
            )
            message.header.stamp = ns_to_time(state.stamp_ns)
            publisher.publish(message)

    async def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        on = bool(request.data)
        states = [device.enable(on) for device in self._devices()]
        answers = [(state.readiness <= Readiness.WAITING, state.text) for state in states]
        if on:
            answers += [await arm.enable() for arm in self.arms]
        elif self.arms:
            answers.append((True, "the arms' drives stay on: an arm without brakes would sink"))
        response.success = all(ok for ok, _ in answers)
        response.message = "; ".join(text for _, text in answers)
        return response

    async def _recover(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._recovering:
            response.success, response.message = False, "a recovery is already in progress"
            return response
        self._recovering = True
        try:
            answers = [cycle.recover() for cycle in self.cycles]
            for arm in self.arms:
                answers.append(await arm.recover(may_move=self.p.recover_moving))
        finally:
            self._recovering = False
        self.get_logger().info(f"recovery: {'; '.join(text for _, text in answers)}")
        return _answer(response, answers)

    def _clear(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return _answer(response, [cycle.clear() for cycle in self.cycles])

    def _calibrate(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return _answer(response, [cycle.calibrate(self.clock.now_ns()) for cycle in self.cycles])

    def _on_error(self, error: Exception) -> None:
        self._fault = f"{type(error).__name__}: {error}"
        self.get_logger().error(f"the hands' thread ended: {self._fault}")

    def _report(self) -> None:
        if self._diagnostics is None:
            return
        values: dict[str, object] = {}
        watched = [*self._devices(), *self.arms]
        for device in watched:
            name = device.group.name
            values |= {f"{name}/{key}": value for key, value in device.values().items()}
            values |= {f"{name}/{key}": value for key, value in report(device.state()).items()}
        if self._worker is None:
            level, text = DiagnosticLevel.OK, "inactive"
        elif self._fault:
            level, text = DiagnosticLevel.ERROR, self._fault
        elif self._refused:
            level, text = (
                DiagnosticLevel.ERROR,
                "; ".join(f"{name}: {why}" for name, why in self._refused.items()),
            )
        else:
            states = [device.state() for device in watched]
            hindered = [state.text for state in states if state.readiness > Readiness.READY]
            level = LEVELS[worst(states).readiness]
            text = "; ".join(hindered) or "; ".join(state.text for state in states)
        self._diagnostics.report(level, text, values | self.inputs.values())


def _answer(response: Trigger.Response, answers: list[tuple[bool, str]]) -> Trigger.Response:
    response.success = all(ok for ok, _ in answers)
    response.message = "; ".join(text for _, text in answers)
    return response
