# SPDX-License-Identifier: Apache-2.0
"""What a robot's driver offers beside joint states and commands: modes, services, speed scaling.

A vendor's type is used where its package is installed. Elsewhere modes go out as diagnostic_msgs/DiagnosticStatus on
the vendor's topic name with `_text` behind it, and services are std_srvs ones of the vendor's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import Bool, Float64
from std_srvs.srv import SetBool, Trigger

from wam.core.clock import NS_PER_S
from wam.devices.franka.arm import RECOVERY_ACTION, STATE_TOPIC
from wam.devices.franka.twin import ACTIVATE, RECOVERY
from wam.devices.piper.arm import ARM_JOINTS, PIPER_ROS
from wam.devices.twin import DISABLE, ENABLE, FAULT, Answer
from wam.devices.ur import arm as ur_names
from wam.devices.ur.twin import UrDriver
from wam.robots.description import JointGroup
from wam.ros.qos import EVENT, STATIC, STATUS
from wam.sim.cycle import GroupOutput, SimCycle
from wam.sim.pace import Pace
from wam_sim_node.gripper import GripperActions
from wam_sim_node.vendor import Vendor, modes_text

MODES_RATE_HZ = 10.0
"""Rate of modes that are told as text."""

SCALING_RATE_HZ = 100.0
"""Rate of speed_scaling_state_broadcaster."""

SLIDER_TOPIC = "io_and_status_controller/speed_slider"
"""std_msgs/Float64 0..1: stands in for set_speed_slider where ur_msgs is not installed."""


class DeviceServices:
    """Services of any group: `~/GROUP/fault` trips its device's own protection (not every device has one).

    Args:
        node: lifecycle node that owns the entities.
        group: whose device.
        cycle: asked for everything.
        vendor: finds message classes.
    """

    def __init__(self, node: Any, group: JointGroup, cycle: SimCycle, vendor: Vendor) -> None:
        self.node, self.group, self.cycle, self.vendor = node, group, cycle, vendor
        self._remove: list[Callable[[], Any]] = []
        self.trigger(f"~/{group.name}/{FAULT}", partial(self.request, FAULT))

    def publish(self, output: GroupOutput, stamp_ns: int) -> None:
        """Publish the modes of one moment, where they are due."""

    def close(self) -> None:
        """Remove what was made."""
        for remove in reversed(self._remove):
            remove()
        self._remove = []

    def request(self, name: str) -> Answer:
        """Ask the driver's twin."""
        return self.cycle.request(self.group.name, name)

    def trigger(self, name: str, ask: Callable[[], Answer]) -> None:
        """Offer a std_srvs/Trigger that answers with `ask`."""

        def answer(_request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            given = ask()
            response.success, response.message = given.ok, given.text
            return response

        self.serve(Trigger, name, answer)

    def serve(self, kind: Any, name: str, answer: Callable[[Any, Any], Any]) -> None:
        """Offer a service."""
        service = self.node.create_service(kind, name, answer)
        self._remove.append(partial(self.node.destroy_service, service))

    def publisher(self, kind: Any, topic: str, qos: Any) -> Any:
        """Return a publisher that `close` removes."""
        made = self.node.create_lifecycle_publisher(kind, topic, qos)
        self._remove.append(partial(self.node.destroy_lifecycle_publisher, made))
        return made

    def remove_later(self, remove: Callable[[], Any]) -> None:
        """Call `remove` in `close`."""
        self._remove.append(remove)


class PiperServices(DeviceServices):
    """`arm_status`, `enable_srv` (piper_msgs/Enable, else std_srvs/SetBool) and `reset_srv` of piper_ros."""

    def __init__(self, node: Any, group: JointGroup, cycle: SimCycle, vendor: Vendor) -> None:
        super().__init__(node, group, cycle, vendor)
        folder = group.state_topic.rpartition("/")[0]
        beside = f"{folder}/" if folder else ""
        self._kind, enable = vendor("piper_status"), vendor("piper_enable")
        topic = f"{beside}{PIPER_ROS.status}"
        self._pace = Pace(round(NS_PER_S / (group.state_rate if self._kind else MODES_RATE_HZ)))
        self._status = self.publisher(
            self._kind or DiagnosticStatus, topic if self._kind else f"{topic}_text", STATUS
        )
        if enable is None:
            self.serve(SetBool, f"{beside}{PIPER_ROS.enable}", self._set_bool)
        else:
            self.serve(enable, f"{beside}{PIPER_ROS.enable}", self._enable)
        self.trigger(f"{beside}reset_srv", partial(self.request, "reset"))

    def publish(self, output: GroupOutput, stamp_ns: int) -> None:
        """Publish the arm's status, if one is due."""
        if not self._pace.due(stamp_ns):
            return
        if self._kind is None:
            self._status.publish(modes_text(self.group.name, output.modes))
            return
        message = self._kind()
        message.ctrl_mode = int(output.modes["ctrl_mode"])
        message.arm_status = int(output.modes["arm_status"])
        positions = dict(zip(output.feedback.names, output.feedback.positions, strict=True))
        joints = {joint.driver_name: joint for joint in self.group.joints}
        for number, name in enumerate(ARM_JOINTS, 1):
            field = f"joint_{number}_angle_limit"
            if hasattr(message, field) and name in joints:
                joint = joints[name]
                setattr(message, field, not joint.lower < positions[name] < joint.upper)
        self._status.publish(message)

    def _set_bool(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        given = self.request(ENABLE if request.data else DISABLE)
        response.success, response.message = given.ok, given.text
        return response

    def _enable(self, request: Any, response: Any) -> Any:
        response.enable_response = self.request(ENABLE if request.enable_request else DISABLE).ok
        return response


class FrankaServices(DeviceServices):
    """Robot state and error recovery of franka_ros2.

    A recovery also activates the trajectory controller, since no controller manager is simulated.
    """

    def __init__(self, node: Any, group: JointGroup, cycle: SimCycle, vendor: Vendor) -> None:
        super().__init__(node, group, cycle, vendor)
        self._kind, recovery = vendor("franka_state"), vendor("franka_recovery")
        rate = group.state_rate if self._kind else MODES_RATE_HZ
        self._pace = Pace(round(NS_PER_S / rate))
        self._state = self.publisher(
            self._kind or DiagnosticStatus, STATE_TOPIC if self._kind else f"{STATE_TOPIC}_text", STATUS
        )
        if recovery is None:
            self.trigger(RECOVERY_ACTION, self._recover)
            return
        from rclpy.action import ActionServer

        def execute(handle: Any) -> Any:
            done = handle.succeed if self._recover().ok else handle.abort
            done()
            return recovery.Result()

        server = ActionServer(node, recovery, RECOVERY_ACTION, execute)
        self.remove_later(server.destroy)

    def publish(self, output: GroupOutput, stamp_ns: int) -> None:
        """Publish the robot's state, if one is due."""
        if not self._pace.due(stamp_ns):
            return
        if self._kind is None:
            self._state.publish(modes_text(self.group.name, output.modes))
            return
        message, modes = self._kind(), output.modes
        message.robot_mode = int(modes["robot_mode"])
        message.control_command_success_rate = float(modes["control_command_success_rate"])
        for field in ("current_errors", "last_motion_errors"):
            for name in filter(None, str(modes[field]).split(", ")):
                setattr(getattr(message, field), name, True)
        self._state.publish(message)

    def _recover(self) -> Answer:
        recovered = self.request(RECOVERY)
        return self.request(ACTIVATE) if recovered.ok else recovered


class UrServices(DeviceServices):
    """Speed scaling, program, modes and dashboard of ur_robot_driver."""

    def __init__(self, node: Any, group: JointGroup, cycle: SimCycle, vendor: Vendor) -> None:
        super().__init__(node, group, cycle, vendor)
        self._scaling = self.publisher(Float64, ur_names.SCALING_TOPIC, STATUS)
        self._program = self.publisher(Bool, ur_names.PROGRAM_TOPIC, STATIC)
        self._told: dict[str, str | float] = {}
        self._scaling_pace = Pace(round(NS_PER_S / SCALING_RATE_HZ))
        self._modes_pace = Pace(round(NS_PER_S / MODES_RATE_HZ))
        self._vendor_modes: dict[str, tuple[Any, Any]] = {}
        self._text: Any = None
        for key, name, topic in (
            ("robot_mode", "ur_robot_mode", ur_names.ROBOT_MODE_TOPIC),
            ("safety_mode", "ur_safety_mode", ur_names.SAFETY_MODE_TOPIC),
        ):
            kind = vendor(name)
            if kind is not None:
                self._vendor_modes[key] = (kind, self.publisher(kind, topic, STATIC))
        if not self._vendor_modes:
            self._text = self.publisher(DiagnosticStatus, "io_and_status_controller/modes_text", STATUS)
        for service in self._driver.services:
            self.trigger(f"dashboard_client/{service}", partial(self.request, service))
        slider = vendor("ur_set_slider")
        if slider is not None:
            self.serve(slider, "io_and_status_controller/set_speed_slider", self._set_slider)
        else:
            heard = node.create_subscription(Float64, SLIDER_TOPIC, self._store_slider, EVENT)
            self.remove_later(partial(node.destroy_subscription, heard))

    @property
    def _driver(self) -> UrDriver:
        driver = self.cycle.driver(self.group.name)
        assert isinstance(driver, UrDriver)
        return driver

    def publish(self, output: GroupOutput, stamp_ns: int) -> None:
        """Publish speed scaling and modes, where they are due or have changed."""
        modes = output.modes
        if self._scaling_pace.due(stamp_ns):
            self._scaling.publish(Float64(data=float(modes["speed_scaling"])))
        if self._changed("program_running", modes):
            self._program.publish(Bool(data=bool(modes["program_running"])))
        for key, (kind, publisher) in self._vendor_modes.items():
            if self._changed(key, modes):
                publisher.publish(kind(mode=int(modes[key])))
        if self._text is not None and self._modes_pace.due(stamp_ns):
            self._text.publish(modes_text(self.group.name, modes))

    def _changed(self, key: str, modes: Mapping[str, str | float]) -> bool:
        before, self._told[key] = self._told.get(key), modes[key]
        return before != modes[key]

    def _slide(self, fraction: float) -> Answer:
        with self.cycle.exclusive():
            return self._driver.set_slider(fraction)

    def _set_slider(self, request: Any, response: Any) -> Any:
        response.success = self._slide(float(request.speed_slider_fraction)).ok
        return response

    def _store_slider(self, message: Float64) -> None:
        answer = self._slide(float(message.data))
        if not answer.ok:
            self.node.get_logger().warning(answer.text)


class GripperServices(DeviceServices):
    """`stop` of franka_gripper, and its actions where their packages are installed."""

    def __init__(self, node: Any, group: JointGroup, cycle: SimCycle, vendor: Vendor) -> None:
        super().__init__(node, group, cycle, vendor)
        folder = group.state_topic.rpartition("/")[0]
        actions = GripperActions(node, group, cycle, vendor, folder=folder)
        self.trigger(f"{folder}/stop" if folder else "stop", actions.stop)
        self.remove_later(actions.close)


KINDS: Mapping[type[DeviceServices]] = {
    "piper": PiperServices,
    "franka": FrankaServices,
    "franka_gripper": GripperServices,
    "ur": UrServices,
}


def make_services(node: Any, group: JointGroup, cycle: SimCycle, vendor: Vendor) -> DeviceServices | None:
    """Return the services of the group's driver, or None for an adapter of the suite, which has none in simulation."""
    kind = KINDS.get(group.driver)
    return None if kind is None else kind(node, group, cycle, vendor)
