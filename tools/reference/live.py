# SPDX-License-Identifier: Apache-2.0
"""What running nodes have: topics with type and QoS, services, actions and keys of diagnostics.

Each node is made and configured in this process, for every robot, in a namespace: what does not follow the namespace is
shown with a slash.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import rclpy
from rclpy.action import ActionClient, ActionServer
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

from wam.ros.diagnostics import Diagnostics
from wam.ros.security.grants import LIFECYCLE, PLAIN
from wam.runtime.policy import load_fake
from wam.sim.tasks.registry import tasks_of

from .pages import StaleEntry

NAMESPACE = "ns"
ROBOTS = ("piper", "franka", "ur5e_inspire")
STANDARD = frozenset(
    {
        "diagnostic_msgs", "geometry_msgs", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs", "trajectory_msgs",
        "wam_msgs",
    }
)  # fmt: skip
"""Packages that are there wherever the suite is; what is of another one depends on the installation."""
FOREVER_NS = 10**18
"""Durations above this are "no limit"."""


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """A topic, service or action of a node.

    Attributes:
        verb: publishes, subscribes, serves, calls, acts or asks.
        name: relative to the namespace, "~/" private to the node, or absolute.
        type: package and type.
        qos: in words; "" for services and actions.
    """

    verb: str
    name: str
    type: str
    qos: str = ""


@dataclass(slots=True)
class NodeFacts:
    """What was seen of a node.

    Attributes:
        endpoints: endpoint -> the robots with which there is one.
        keys: key of its diagnostics -> the robots.
        task: name of its diagnostics status.
    """

    endpoints: dict[Endpoint, list[str]] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    task: str = ""


def facts() -> dict[str, NodeFacts]:
    """Return name of a node -> what it has. Needs rclpy and MuJoCo.

    Raises:
        StaleEntry: a node could not be configured.
    """
    found: dict[str, NodeFacts] = {}
    rclpy.init(args=["--ros-args", "--log-level", "fatal"])
    try:
        for robot in ROBOTS:
            for name, makes in makers().items():
                for make in makes:
                    _look(found.setdefault(name, NodeFacts()), make, robot)
    finally:
        rclpy.shutdown()
    return found


def makers() -> Mapping[str, tuple[Callable[[str], Node], ...]]:
    """Return name of a node -> functions that make one for a robot, in its settings that differ in topics."""
    from wam_bringup.task_node import TaskNode
    from wam_bringup.view import ViewNode
    from wam_driver_node.node import DriverNode
    from wam_executor_node.node import ExecutorNode
    from wam_planner_node.node import PlannerNode
    from wam_safety_node.node import SafetyNode
    from wam_sim_node.node import SimNode

    def task(robot: str) -> str:
        return tasks_of(robot)[0].name

    def driver(robot: str) -> Node:
        hands = {"devices": ["mock"]} if robot == "ur5e_inspire" else {}
        from wam_msgs.action import RunTask

        # The Franka Hand's actions need franka_msgs, their names do not.
        types = {"grasp": RunTask, "move": RunTask} if robot == "franka" else None
        return DriverNode(find=_nothing, gripper_types=types, **_given(robot=robot, **hands))

    return {
        "wam_planner": (
            lambda robot: PlannerNode(load_policy=load_fake, **_given(robot=robot, policy="fake")),
        ),
        "wam_executor": (
            lambda robot: ExecutorNode(load_policy=load_fake, **_given(robot=robot, policy="fake")),
        ),
        "wam_safety": (
            lambda robot: SafetyNode(**_given(robot=robot, dry_run=False, audit_dir="")),
            lambda robot: SafetyNode(**_given(robot=robot, dry_run=True, audit_dir="")),
        ),
        "wam_driver": (driver,),
        "wam_sim": (
            lambda robot: SimNode(
                vendor=_nothing, **_given(robot=robot, task=task(robot), cameras=False, clock="publish")
            ),
        ),
        "wam_task": (lambda _robot: TaskNode(**_given()),),
        "wam_view": (lambda robot: ViewNode(**_given(robot=robot)),),
    }


def _given(**values: Any) -> dict[str, Any]:
    return {
        "namespace": NAMESPACE,
        "parameter_overrides": [Parameter(name, value=value) for name, value in values.items()],
    }


def _nothing(_name: str) -> None:
    """Find no vendor's type: what depends on the installation is told in another table."""


def _look(found: NodeFacts, make: Callable[[str], Node], robot: str) -> None:
    reports: list[tuple[Diagnostics, Mapping[str, object]]] = []

    def report(self: Diagnostics, _level: object, _text: str, values: Mapping[str, object]) -> None:
        reports.append((self, values))

    with mock.patch.object(Diagnostics, "report", report), _named_servers():
        node: Any = make(robot)
        try:
            if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
                raise StaleEntry(f"{node.get_name()} could not be configured for {robot}: {node.last_error}")
            names = {node.get_name(), *(_helper_names(node))}
            if any(one.topic_name == "/diagnostics" for one in node.publishers):
                _spin_until(node, lambda: bool(reports))
            for one in (node, *_helpers(node)):
                for endpoint in _endpoints(one, names):
                    _note(found.endpoints.setdefault(endpoint, []), robot)
            for diagnostics, values in reports:
                found.task = diagnostics._name
                for key in values:
                    _note(found.keys.setdefault(key.replace(f"/{NAMESPACE}/", ""), []), robot)
        finally:
            node.trigger_shutdown()
            node.destroy_node()


def _note(robots: list[str], robot: str) -> None:
    if robot not in robots:
        robots.append(robot)


def _helpers(node: Any) -> list[Node]:
    """Return nodes that a node has beside itself, in its process: the listener of emergency stops."""
    listener = getattr(node, "_estop", None)
    return [] if listener is None else [listener._node]


def _helper_names(node: Any) -> list[str]:
    return [one.get_name() for one in _helpers(node)]


def _spin_until(node: Node, done: Callable[[], bool]) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not done():
        executor.spin_once()
    executor.remove_node(node)


@contextlib.contextmanager
def _named_servers() -> Iterator[None]:
    """Let action servers keep their name; rclpy keeps that of a client only."""
    make_server = ActionServer.__init__

    def make_and_name(server: Any, node: Node, kind: Any, name: str, *more: Any, **options: Any) -> None:
        server._action_name = name
        make_server(server, node, kind, name, *more, **options)

    with mock.patch.object(ActionServer, "__init__", make_and_name):
        yield


def _endpoints(node: Any, own: set[str]) -> Iterator[Endpoint]:
    beneath = (PLAIN | LIFECYCLE).resolved(node=node.get_name(), namespace=NAMESPACE)
    for verb, those, hidden in (
        ("publishes", node.publishers, beneath.publishes),
        ("subscribes", node.subscriptions, beneath.subscribes),
    ):
        for one in those:
            if one.topic_name not in hidden and _package(one.msg_type) in STANDARD:
                yield Endpoint(
                    verb, _short(one.topic_name, own), _type(one.msg_type), _words(one.qos_profile, verb)
                )
    for verb, services in (("serves", node.services), ("calls", node.clients)):
        for one in services:
            if one.service_name not in beneath.serves and "/_action/" not in one.service_name:
                yield Endpoint(verb, _short(one.service_name, own), _type(one.srv_type))
    for one in node.waitables:
        if isinstance(one, ActionServer | ActionClient):
            waitable: Any = one
            verb = "acts" if isinstance(one, ActionServer) else "asks"
            name = _short(str(node.resolve_service_name(waitable._action_name)), own)
            yield Endpoint(verb, name, "" if verb == "asks" else _type(waitable.action_type))


def _short(name: str, own: set[str]) -> str:
    for node in own:
        if name.startswith(f"/{NAMESPACE}/{node}/"):
            return "~/" + name.removeprefix(f"/{NAMESPACE}/{node}/")
    return name.removeprefix(f"/{NAMESPACE}/")


def _package(kind: type[Any]) -> str:
    return kind.__module__.partition(".")[0]


def _type(kind: type[Any]) -> str:
    return f"{_package(kind)}/{kind.__name__}"


def _words(qos: QoSProfile, verb: str) -> str:
    reliable = qos.reliability == QoSReliabilityPolicy.RELIABLE
    latched = qos.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
    parts = ["reliable" if reliable else "best effort", f"depth {qos.depth}"]
    if latched:
        parts.append("latched")
    for name, duration in (
        ("deadline", qos.deadline),
        ("lifespan", qos.lifespan if verb == "publishes" else None),
        ("lease", qos.liveliness_lease_duration),
    ):
        if duration is not None and 0 < duration.nanoseconds < FOREVER_NS:
            parts.append(f"{name} {duration.nanoseconds * 1e-9:g} s")
    return ", ".join(parts)
