# SPDX-License-Identifier: Apache-2.0
"""The kinds of devices: one row each. Everything that depends on a device is looked up here, by `driver` of a group.

A kind that lives in another package is announced by that package as an entry point of the group `wam.devices`, whose
name is the kind's and whose value is a `DeviceKind`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata

from wam.core.errors import ConfigError
from wam.devices.controllers import StreamDriver
from wam.devices.estop import EstopFeed
from wam.devices.franka import adapter as franka_adapter
from wam.devices.franka import estop as franka_estop
from wam.devices.franka import launch as franka_launch
from wam.devices.franka import rules as franka_rules
from wam.devices.franka import simulated as franka_simulated
from wam.devices.franka.arm import EXTERNAL_TOPIC
from wam.devices.franka.twin import FrankaDriver, GripperDriver
from wam.devices.franka.watch import FrankaWatch
from wam.devices.inspire import adapter as inspire_adapter
from wam.devices.inspire import rules as inspire_rules
from wam.devices.jtc import ControllerOptions
from wam.devices.jtc.parameters import controller_options, distribution_or_default
from wam.devices.kind import DeviceKind, EffortReport, MakeTwin
from wam.devices.piper import arm as piper_arm
from wam.devices.piper import estop as piper_estop
from wam.devices.piper import launch as piper_launch
from wam.devices.piper import rules as piper_rules
from wam.devices.piper import simulated as piper_simulated
from wam.devices.piper.twin import PiperDriver
from wam.devices.piper.watch import PiperWatch
from wam.devices.reported import ReportedWatch
from wam.devices.rules import DeviceRule
from wam.devices.twin import DriverTwin
from wam.devices.ur import estop as ur_estop
from wam.devices.ur import launch as ur_launch
from wam.devices.ur import rules as ur_rules
from wam.devices.ur import simulated as ur_simulated
from wam.devices.ur.arm import SCALING_TOPIC
from wam.devices.ur.twin import UrDriver
from wam.devices.ur.watch import UrWatch
from wam.devices.watch import Watch
from wam.robots.description import (
    NO_DRIVER,
    CommandKind,
    Distribution,
    JointGroup,
    JointKind,
    RobotDescription,
)
from wam.robots.loads import EFFORT_DIMENSIONS
from wam.robots.units import Dimension

ENTRY_POINTS = "wam.devices"
"""Entry point group of kinds that other packages bring."""


def _plain(twin: Callable[[JointGroup], DriverTwin]) -> MakeTwin:
    """Return the maker of a twin without a trajectory controller."""
    return lambda group, _options: twin(group)


KINDS: Mapping[str, DeviceKind] = {
    kind.name: kind
    for kind in (
        DeviceKind(
            "piper",
            "AgileX Piper behind piper_ros or agx_arm_ros, one driver node per arm",
            piper_rules.ARM,
            twin=_plain(PiperDriver),
            watch=PiperWatch,
            estop=piper_estop.feed,
            simulated=piper_simulated.arm,
            effort=EffortReport((Dimension.TORQUE,)),  # of the gripper's motor as well
            launch=piper_launch.drivers,
            velocity_field=piper_arm.velocity_field,
        ),
        DeviceKind(
            "franka",
            "Franka Research 3 behind franka_ros2, with a joint_trajectory_controller",
            franka_rules.ARM,
            twin=FrankaDriver,
            watch=FrankaWatch,
            estop=franka_estop.feed,
            simulated=franka_simulated.arm,
            effort=EffortReport((Dimension.TORQUE,), EXTERNAL_TOPIC),
            controllers="franka",
            launch=franka_launch.drivers,
        ),
        DeviceKind(
            "franka_gripper",
            "Franka Hand behind franka_gripper, which takes goals: the suite's adapter turns a stream into goals",
            franka_rules.HAND,
            twin=_plain(GripperDriver),
            adapter=franka_adapter.ADAPTER,
            simulated=franka_simulated.hand,
        ),
        DeviceKind(
            "ur",
            "Universal Robots arm behind ur_robot_driver, with a (scaled) joint_trajectory_controller",
            ur_rules.ARM,
            twin=UrDriver,
            watch=UrWatch,
            estop=ur_estop.feed,
            simulated=ur_simulated.arm,
            effort=EffortReport((Dimension.CURRENT,)),
            speed_scaling_topic=SCALING_TOPIC,
            controllers="ur",
            launch=ur_launch.drivers,
        ),
        DeviceKind(
            "inspire",
            "Inspire RH56 hand behind the suite's own adapter",
            inspire_rules.HAND,
            twin=_plain(StreamDriver),
            adapter=inspire_adapter.ADAPTER,
            effort=EffortReport((Dimension.FORCE,)),
        ),
        DeviceKind(
            NO_DRIVER,
            "no driver known to the suite: recorded, or driven by other means",
            DeviceRule(tuple(CommandKind), tuple(JointKind)),
            effort=EffortReport(EFFORT_DIMENSIONS),
        ),
    )
}
"""Name -> kind."""


def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds, those of other packages last."""
    return (*KINDS, *(entry.name for entry in _others() if entry.name not in KINDS))


def find_kind(name: str) -> DeviceKind | None:
    """Return the kind called `name`, or None.

    Raises:
        ConfigError: another package announces a kind of this name that is none.
    """
    kind = KINDS.get(name)
    if kind is not None:
        return kind
    for entry in _others():
        if entry.name == name:
            found = entry.load()
            if not isinstance(found, DeviceKind) or found.name != name:
                raise ConfigError(
                    f"entry point {name!r} of group {ENTRY_POINTS} is no such kind of device",
                    value=entry.value,
                    allowed=f"a wam.devices.kind.DeviceKind called {name}",
                    where="the package that announces it",
                )
            return found
    return None


def kind_of(group: JointGroup) -> DeviceKind:
    """Return the kind of a group's device.

    Raises:
        ConfigError: there is none of this name; a robot file that was loaded has no such group.
    """
    kind = find_kind(group.driver)
    if kind is None:
        raise ConfigError(
            f"driver of group {group.name}",
            value=group.driver,
            allowed=", ".join(kind_names()),
            where="the group's `driver` in the robot file",
        )
    return kind


def make_driver(group: JointGroup, options: ControllerOptions | None = None) -> DriverTwin:
    """Return the twin of the group's driver.

    Args:
        group: whose driver.
        options: parameters of its trajectory controller, where it has one.

    Raises:
        ConfigError: its kind cannot be simulated, or the group does not fit it.
    """
    twin = kind_of(group).twin
    if twin is None:
        raise ConfigError(
            f"group {group.name} has a driver without a twin",
            value=group.driver,
            allowed=", ".join(kind.name for kind in KINDS.values() if kind.twin is not None),
            where="the group's `driver` in the robot file",
        )
    return twin(group, options)


def make_drivers(robot: RobotDescription, distribution: Distribution | None = None) -> dict[str, DriverTwin]:
    """Return joint group -> twin, trajectory controllers with the parameters of config/controllers.

    Args:
        robot: the robot.
        distribution: whose rules count; None takes that of the environment.

    Raises:
        ConfigError: a group's kind of device cannot be simulated.
    """
    rules = distribution or distribution_or_default()
    return {
        group.name: make_driver(group, controller_options(kind_of(group).controllers, group, rules))
        for group in robot.groups
    }


def make_watch(group: JointGroup) -> Watch:
    """Return what watches the device of a group, whether or not its driver has a status."""
    kind = kind_of(group)
    return (kind.watch or (Watch if kind.adapter is None else ReportedWatch))(group)


def estop_feeds(robot: RobotDescription) -> dict[str, EstopFeed]:
    """Return the emergency stops that the robot's devices report themselves, each topic once, under a name for people.

    Args:
        robot: its groups decide.
    """
    found: dict[str, EstopFeed] = {}
    for group in robot.groups:
        kind = kind_of(group)
        feed = None if kind.estop is None else kind.estop(group)
        if feed is not None and feed.topic not in [one.topic for one in found.values()]:
            found[f"{group.name}.{kind.name}"] = feed
    return found


def _others() -> tuple[metadata.EntryPoint, ...]:
    return tuple(metadata.entry_points(group=ENTRY_POINTS))
