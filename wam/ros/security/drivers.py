# SPDX-License-Identifier: Apache-2.0
"""The grants of what drives the robot: the suite's driver node, and the simulated robot with its vendors' topics."""

from __future__ import annotations

from wam.devices.adapter import AddressedAdapter, GoalAdapter
from wam.devices.registry import kind_of
from wam.devices.simulated import SimAction, SimInput, SimService, Simulated
from wam.robots.description import CommandKind, JointGroup, RobotDescription
from wam.ros.security.grants import LIFECYCLE, LOCK_STEP, REPORTS, Grants

SIM_NODE, DRIVER_NODE = "wam_sim", "wam_driver"

RECOVERY_SERVICES = ("dashboard_client/*", "io_and_status_controller/*", "controller_manager/*")
RECOVERY_ACTIONS = ("action_server/*",)
"""What the steps of a recovery call at vendors' drivers without a namespace (wam.devices.ur, wam.devices.franka)."""


def sim_node(robot: RobotDescription) -> Grants:
    """Return the grants of the node wam_sim: everything that drivers and cameras of the robot have, and /clock."""
    cameras = {
        topic
        for camera in robot.cameras
        for topic in (camera.raw_topic, camera.compressed_topic, camera.info_topic)
    }
    found = (
        LIFECYCLE
        | REPORTS
        | LOCK_STEP
        | Grants(
            publishes=frozenset({*cameras, "~/task", "~/truth", "~/world", "/clock"}),
            subscribes=frozenset({"lock_step"}),
            serves=frozenset({"~/start_episode"}),
        )
    )
    for group in robot.groups:
        found |= _simulated_group(group)
    return found


def _simulated_group(group: JointGroup) -> Grants:
    simulated = kind_of(group).simulated
    offered = simulated(group) if simulated is not None else Simulated()
    publishes = {group.state_topic, offered.copy_topic, offered.echo_topic, offered.text_topic}
    publishes |= {status.topic for status in offered.statuses}
    publishes |= {offered.merged.topic} if offered.merged is not None else set()
    subscribes = {offered.enable_topic}
    if group.command_kind is not CommandKind.NONE:
        subscribes.add(group.command_topic)
    if group.command_kind is CommandKind.JOINT_TRAJECTORY:
        controller = group.command_topic.rpartition("/")[0]
        publishes |= {f"{controller}/controller_reference", f"{controller}/controller_state"}
    found = Grants(
        publishes=frozenset(publishes - {""}),
        subscribes=frozenset(subscribes - {""}),
        serves=frozenset({f"~/{group.name}/fault"} if simulated is not None else ()),
    )
    for service in offered.services:
        found |= _simulated_service(service)
    if offered.goals is not None:
        folder = offered.goals.folder
        names = frozenset(f"{folder}/{name}" if folder else name for name in offered.goals.types)
        stop = f"{group.state_topic.rpartition('/')[0]}/stop".lstrip("/")
        found |= Grants(acts=names, serves=frozenset({stop}))
    return found


def _simulated_service(spec: SimService | SimAction | SimInput) -> Grants:
    if isinstance(spec, SimInput):
        return Grants(subscribes=frozenset({spec.topic}))
    one = frozenset({spec.name})
    found = Grants(acts=one) if isinstance(spec, SimAction) else Grants(serves=one)
    return found | _simulated_service(spec.instead) if spec.instead is not None else found


def driver_node(robot: RobotDescription) -> Grants:
    """Return the grants of the node wam_driver: its hands and grippers, and the recovery of the arms."""
    found = (
        LIFECYCLE
        | REPORTS
        | Grants(
            serves=frozenset(f"~/{name}" for name in ("enable", "recover", "clear_errors", "calibrate_force"))
        )
    )
    for group in robot.groups:
        kind = kind_of(group)
        folder = group.state_topic.rpartition("/")[0]
        below = f"{folder}/" if folder else ""
        if isinstance(kind.adapter, AddressedAdapter):
            found |= Grants(
                publishes=frozenset({group.state_topic}), subscribes=frozenset({group.command_topic})
            )
        elif isinstance(kind.adapter, GoalAdapter):
            found |= Grants(
                subscribes=frozenset({group.state_topic, group.command_topic}),
                asks=frozenset({f"{below}*"}),
            )
        if kind.watch is not None:
            watch = kind.watch(group)
            prefix = f"{watch.folder}/" if watch.folder else ""
            if watch.following is not None:
                found |= Grants(subscribes=frozenset({group.command_topic} - {""}))
            # Which calls recover an arm depends on its state and on the distribution, but not whose they are.
            found |= Grants(
                subscribes=frozenset({group.state_topic, *(feed.topic for feed in watch.feeds)}),
                calls=frozenset({f"{prefix}*"} if prefix else RECOVERY_SERVICES) | {"wam_safety/clear_fault"},
                asks=frozenset({f"{prefix}*"} if prefix else RECOVERY_ACTIONS),
            )
    return found
