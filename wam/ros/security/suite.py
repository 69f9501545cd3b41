# SPDX-License-Identifier: Apache-2.0
"""The grants of the suite's nodes and tools, from the robot file: one row per node, one enclave per process.

A new topic of a node needs its name here; test/ros/security compares the rows with what running nodes have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wam.devices.registry import estop_feeds, kind_of, make_watch
from wam.robots.description import CommandKind, RobotDescription
from wam.ros.security.drivers import DRIVER_NODE, SIM_NODE, driver_node, sim_node
from wam.ros.security.grants import LIFECYCLE, LOCK_STEP, PLAIN, REPORTS, Grants
from wam.runtime.ingest.ingest import TRUTH_TOPIC

Rule = Callable[[RobotDescription], Grants]

SAFETY, PLANNER, EXECUTOR = "wam_safety", "wam_planner", "wam_executor"
CHUNK, CONTEXT, EVENT = f"{EXECUTOR}/chunk", f"{PLANNER}/context", f"{SAFETY}/event"
STATUSES = (f"{PLANNER}/status", f"{EXECUTOR}/status")
STATUS = f"{SAFETY}/safety_status"
TASK, BUTTON = "wam_task", "wam_estop_button"


def robot_streams(robot: RobotDescription) -> frozenset[str]:
    """Return the topics that a policy sees: joint states, cameras as they are subscribed to, and ground truth."""
    states, cameras = (group.state_topic for group in robot.groups), (one.topic for one in robot.cameras)
    return frozenset({*states, *cameras, TRUTH_TOPIC})


def command_topics(robot: RobotDescription) -> frozenset[str]:
    """Return the topics that move the robot."""
    return frozenset(
        group.command_topic for group in robot.groups if group.command_kind is not CommandKind.NONE
    )


def planner(robot: RobotDescription) -> Grants:
    """Return the grants of the node wam_planner."""
    return (
        LIFECYCLE
        | REPORTS
        | LOCK_STEP
        | Grants(
            publishes=frozenset({"~/context", "~/status", "~/contract", "~/imagination_error"}),
            subscribes=robot_streams(robot),
            serves=frozenset({"~/set_instruction"}),
        )
    )


def executor(robot: RobotDescription) -> Grants:
    """Return the grants of the node wam_executor."""
    return (
        LIFECYCLE
        | REPORTS
        | LOCK_STEP
        | Grants(
            publishes=frozenset({"~/chunk", "~/status", "~/imagined_image", "~/imagination_error"}),
            subscribes=robot_streams(robot) | {CONTEXT, STATUS, f"{PLANNER}/contract"},
            serves=frozenset({"~/set_acting"}),
        )
    )


def safety(robot: RobotDescription) -> Grants:
    """Return the grants of the node wam_safety, the only one that may publish commands."""
    controllers = {
        f"{group.command_topic.rpartition('/')[0]}/controller_state"
        for group in robot.groups
        if group.command_kind is CommandKind.JOINT_TRAJECTORY
    }
    scaling = {topic for group in robot.groups if (topic := kind_of(group).speed_scaling_topic)}
    states = {group.state_topic for group in robot.groups}
    torques = {
        kind_of(group).effort.external_topic
        for group in robot.groups
        if any(joint.external_torque.guarded for joint in group.joints)
    }
    statuses = {feed.topic for group in robot.groups for feed in make_watch(group).deaf_feeds}
    return (
        LIFECYCLE
        | REPORTS
        | LOCK_STEP
        | Grants(
            # A topic of a unique name shows the node its own participant in the graph.
            publishes=command_topics(robot)
            | {
                "~/event",
                "~/safety_status",
                "~/command_preview",
                "~/identity_*",
                "~/_lease_*",
                "~/_commanding",
            },
            subscribes=frozenset(
                {CHUNK, "reduced_speed", *states, *controllers, *scaling, *torques, *statuses}
            ),
            serves=frozenset({"~/clear_fault", "~/resume", "~/retreat"}),
            calls=frozenset({"check_state_validity", "get_planning_scene"}),
        )
    )


def estop(robot: RobotDescription) -> Grants:
    """Return the grants of the node that hears the emergency stops, in the process of the safety node."""
    return Grants(
        publishes=PLAIN.publishes,
        subscribes=frozenset(
            {
                "estop",
                *(source.topic for source in robot.safety.estop_sources),
                *(feed.topic for feed in estop_feeds(robot).values()),
                *PLAIN.subscribes,
            }
        ),
        serves=frozenset({"~/get_type_description", f"{SAFETY}/estop"}),
    )


def button(robot: RobotDescription) -> Grants:
    """Return the grants of the node that publishes an emergency-stop button."""
    topics = {"estop", *(source.topic for source in robot.safety.estop_sources)}
    return PLAIN | Grants(publishes=frozenset(topics))


def task(_robot: RobotDescription) -> Grants:
    """Return the grants of the node wam_task."""
    return LIFECYCLE | Grants(
        subscribes=frozenset({CHUNK, EVENT, *STATUSES}),
        calls=frozenset({f"{PLANNER}/set_instruction", f"{EXECUTOR}/set_acting"}),
        acts=frozenset({"~/run_task"}),
    )


def ingest(robot: RobotDescription) -> Grants:
    """Return the grants of the node that receives for planner and executor in one process."""
    return PLAIN | Grants(subscribes=robot_streams(robot))


def gate(robot: RobotDescription) -> Grants:
    """Return the grants of the node on which launch files wait."""
    return PLAIN | Grants(
        subscribes=frozenset(group.state_topic for group in robot.groups),
        calls=frozenset(f"{node}/get_state" for node in (SAFETY, PLANNER, EXECUTOR)),
    )


def view(robot: RobotDescription) -> Grants:
    """Return the grants of the node that shows the model's state."""
    return LIFECYCLE | Grants(
        publishes=frozenset({"~/joint_states"}),
        subscribes=frozenset(group.state_topic for group in robot.groups),
    )


def watcher(robot: RobotDescription) -> Grants:
    """Return the grants of a tool that only listens: `wam record`, `wam doctor --robot`, a listener of your own."""
    images = {topic for camera in robot.cameras for topic in (camera.topic, camera.info_topic)}
    return PLAIN | Grants(
        subscribes=frozenset(
            {
                *(group.state_topic for group in robot.groups),
                *command_topics(robot),
                *images,
                *STATUSES,
                CHUNK,
                EVENT,
                STATUS,
                f"{SAFETY}/command_preview",
                f"{EXECUTOR}/imagined_image",
                f"{EXECUTOR}/imagination_error",
                f"{PLANNER}/imagination_error",
                "/diagnostics",
                "/rosout",
            }
        )
    )


def operator(_robot: RobotDescription) -> Grants:
    """Return the grants of a person's terminal: stop, clear, run a task, change the state of a node."""
    nodes = (SAFETY, PLANNER, EXECUTOR, TASK, DRIVER_NODE)
    return PLAIN | Grants(
        publishes=frozenset({"estop"}),
        subscribes=frozenset({EVENT, STATUS, *STATUSES, "/diagnostics", "/rosout"}),
        calls=frozenset(
            {
                f"{SAFETY}/estop",
                f"{SAFETY}/clear_fault",
                f"{SAFETY}/resume",
                f"{SAFETY}/retreat",
                f"{PLANNER}/set_instruction",
                f"{EXECUTOR}/set_acting",
            }
            | {f"{DRIVER_NODE}/{name}" for name in ("enable", "recover", "clear_errors", "calibrate_force")}
            | {f"{node}/{name}" for node in nodes for name in ("get_state", "change_state")}
        ),
        asks=frozenset({f"{TASK}/run_task"}),
    )


@dataclass(frozen=True, slots=True)
class Enclave:
    """One process that has an identity of its own.

    Attributes:
        name: last part of the enclave's name, e.g. "wam_safety".
        title: what runs in it, for people.
        nodes: name of each node in it -> its rule; `*` in a name stands for any text.
    """

    name: str
    title: str
    nodes: Mapping[str, Rule]

    def grants(self, robot: RobotDescription, *, namespace: str) -> Grants:
        """Return what the process may do on `robot`, in absolute names."""
        found = Grants()
        for node, rule in self.nodes.items():
            found |= rule(robot).resolved(node=node, namespace=namespace)
        return found


WATCHER, OPERATOR, VENDOR = "wam_watch", "wam_operator", "wam_vendor"
TOOLS, ROS2_CLI = ("wam_record", "wam_doctor"), "_ros2cli_*"
"""Nodes of `wam record` and `wam doctor --robot`, and of the command `ros2`."""

ENCLAVES: tuple[Enclave, ...] = (
    Enclave(SAFETY, "safety node", {SAFETY: safety, f"{SAFETY}_estop": estop}),
    Enclave(BUTTON, "emergency-stop button", {BUTTON: button}),
    Enclave(PLANNER, "planner", {PLANNER: planner}),
    Enclave(EXECUTOR, "executor", {EXECUTOR: executor}),
    Enclave(
        "wam_bringup",
        "planner and executor in one process",
        {PLANNER: planner, EXECUTOR: executor, "wam_ingest": ingest, TASK: task},
    ),
    Enclave(SIM_NODE, "simulated robot", {SIM_NODE: sim_node}),
    Enclave(DRIVER_NODE, "the suite's own driver", {DRIVER_NODE: driver_node}),
    Enclave("wam_gate", "start conditions of launch files", {"wam_gate": gate}),
    Enclave("wam_view", "model state for RViz", {"wam_view": view}),
    Enclave(WATCHER, "tools that only listen", dict.fromkeys((*TOOLS, ROS2_CLI), watcher)),
    Enclave(OPERATOR, "a person's terminal", dict.fromkeys((OPERATOR, ROS2_CLI), operator)),
)
"""Every process of the suite; vendors' drivers and RViz have the enclave `VENDOR`, which is open but for the suite's
own topics (`wam.ros.security.documents`)."""

BY_NAME = {enclave.name: enclave for enclave in ENCLAVES}


def denied_to_vendors(robot: RobotDescription, *, namespace: str) -> tuple[str, ...]:
    """Return the DDS topics that a vendor's driver may not write, sorted: the suite's, and what moves the robot."""
    own = Grants(publishes=frozenset({"wam_*", "estop"}) | command_topics(robot), serves=frozenset({"wam_*"}))
    found = own.resolved(node="", namespace=namespace).written_topics()
    requests = Grants(calls=frozenset({"wam_*"})).resolved(node="", namespace=namespace).written_topics()
    return tuple(sorted({*found, *requests}))
