# SPDX-License-Identifier: Apache-2.0
"""The permissions name what running nodes have: nothing is missing, and what is more is known by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
from rclpy.action import ActionClient, ActionServer
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter

from wam.devices.loader import load_robot
from wam.devices.registry import estop_feeds, make_watch
from wam.ros.ingest import SharedIngest
from wam.ros.moveit.service import SCENE_SERVICE, SERVICE
from wam.ros.security.grants import LIFECYCLE, PLAIN, Grants
from wam.ros.security.suite import BY_NAME, ENCLAVES, ROS2_CLI, VENDOR, denied_to_vendors
from wam.runtime.policy import load_fake
from wam_bringup.gate import GateNode
from wam_bringup.task_node import TaskNode
from wam_bringup.view import ViewNode
from wam_driver_node.node import DriverNode
from wam_executor_node.node import ExecutorNode
from wam_planner_node.node import PlannerNode
from wam_safety_node.node import SafetyNode

pytestmark = pytest.mark.ros

ROBOTS = ("piper", "franka", "ur5e_inspire")
Maker = Callable[[str], list[Node]]


def parameters(**values: Any) -> list[Parameter[Any]]:
    return [Parameter(name, value=value) for name, value in values.items()]


def driver(robot: str) -> list[Node]:
    # A hand behind an address needs one; the Franka Hand's actions need franka_msgs, their names do not.
    hands = {"devices": ["mock"]} if robot == "ur5e_inspire" else {}
    types = {"grasp": _any_action(), "move": _any_action()} if robot == "franka" else None
    return [
        DriverNode(
            gripper_types=types, parameter_overrides=parameters(robot=robot, write_enabled=True, **hands)
        )
    ]


def _any_action() -> Any:
    from wam_msgs.action import RunTask

    return RunTask


def separate(kind: type[Any]) -> Maker:
    return lambda robot: [
        kind(load_policy=load_fake, parameter_overrides=parameters(robot=robot, policy="fake"))
    ]


def composed(robot: str) -> list[Node]:
    host = Node("wam_ingest")
    shared, given = SharedIngest(host), parameters(robot=robot, policy="fake")
    act = ExecutorNode(load_policy=load_fake, shared_ingest=shared, composed=True, parameter_overrides=given)
    plan = PlannerNode(
        load_policy=load_fake, shared_ingest=shared, sink=act.offer_context, parameter_overrides=given
    )
    return [host, act, plan, TaskNode()]


def gate(robot: str) -> list[Node]:
    nodes = ["wam_safety", "wam_planner", "wam_executor"]
    return [GateNode(parameter_overrides=parameters(robot=robot, nodes=nodes))]


def safety(robot: str, *, dry_run: bool = False) -> list[Node]:
    return [SafetyNode(parameter_overrides=parameters(robot=robot, dry_run=dry_run))]


MAKERS: dict[str, Maker] = {
    "wam_safety": safety,
    "wam_planner": separate(PlannerNode),
    "wam_executor": separate(ExecutorNode),
    "wam_bringup": composed,
    "wam_driver": driver,
    "wam_gate": gate,
    "wam_view": lambda robot: [ViewNode(parameter_overrides=parameters(robot=robot))],
}

NOT_ALWAYS = {
    "wam_safety": {
        "rt*/wam_safety/command_preview": "in a dry run",
        "rt*/wam_safety/_lease_*": "under a name that ends in the lock's",
        "rt*/wam_safety/_commanding": "while it may command",
        "rt*/wam_safety/identity_*": "for a moment at configure",
        "rt/*_controller/controller_state": "where control_msgs is installed",
        "r[rq]*/check_state_validity*": "with moveit: move_group",
        "r[rq]*/get_planning_scene*": "with moveit: move_group",
    },
    "wam_planner": {
        "rt/wam_planner/imagination_error": "policies that imagine, on request",
        "rt/*/image_raw*": "cameras that this policy does not see",
        "rt/wam_sim/truth": "policies that need ground truth",
    },
    "wam_executor": {
        "rt/*/image_raw*": "cameras that this policy does not see",
        "rt/wam_sim/truth": "policies that need ground truth",
        "rt/wam_executor/imagined_image": "policies that imagine images",
        "rt/wam_executor/imagination_error": "policies that imagine, on request",
        "rt/wam_planner/contract": "for a moment at activation",
    },
    "wam_bringup": {
        "rt/*/image_raw*": "cameras that this policy does not see",
        "rt/wam_sim/truth": "policies that need ground truth",
        "rt/wam_executor/imagined_image": "policies that imagine images",
        "rt/wam_*/imagination_error": "policies that imagine, on request",
        "rt/wam_planner/context": "planner and executor in two processes",
        "rt/wam_planner/contract": "planner and executor in two processes",
    },
    "wam_driver": {
        "rq*/[*]Request": "while an arm is recovered, or a gripper's goal is sent",
        "r[rq]*/[*]*": "while an arm is recovered, or a gripper's goal is sent",
        "rt*/[*]/_action/*": "while an arm is recovered, or a gripper's goal is sent",
        "r[rq]/wam_safety/clear_fault*": "at the end of a recovery",
        "rt/*": "status topics whose message types are not installed; joint states only of arms with drives",
    },
    "wam_sim": {
        "rt/wam_sim/task": "with a task",
        "rt/wam_sim/truth": "with a task",
        "r[rq]/wam_sim/start_episode*": "with a task",
        "rt/clock": "with clock: publish",
        "rt/*/controller_state": "where control_msgs is installed",
        "rt/*": "cameras that are not rendered; status topics whose message types are not installed",
        "r[rq]/*": "services and actions whose types are not installed",
    },
    "wam_gate": {},
    "wam_view": {},
}
"""What an enclave is granted although a node that was just configured does not have it, and when it does."""
ALWAYS_MORE = {"rt/clock": "with use_sim_time", "rt*/lock_step": "with lock_step"}


def endpoints(nodes: list[Node]) -> tuple[set[str], set[str]]:
    """Return the DDS topics that nodes write and read: what rclpy holds for them, and what it makes beneath."""
    found = Grants()
    helpers = [
        node._estop._node for node in nodes if isinstance(node, SafetyNode) and node._estop is not None
    ]
    for node in (*nodes, *helpers):
        beneath = LIFECYCLE if isinstance(node, LifecycleNode) else PLAIN
        if node in helpers:  # without parameter services
            beneath = Grants(publishes=frozenset({"/rosout"}), serves=frozenset({"~/get_type_description"}))
        waitables = list(node.waitables)
        found |= Grants(
            publishes=frozenset(one.topic_name for one in node.publishers),
            subscribes=frozenset(one.topic_name for one in node.subscriptions),
            serves=frozenset(one.service_name for one in node.services),
            calls=frozenset(one.service_name for one in node.clients),
            acts=frozenset(_action(node, one) for one in waitables if isinstance(one, ActionServer)),
            asks=frozenset(_action(node, one) for one in waitables if isinstance(one, ActionClient)),
        )
        found |= replace(beneath, subscribes=frozenset()).resolved(
            node=node.get_name(), namespace=node.get_namespace()
        )
    return set(found.written_topics()), set(found.read_topics())


def _action(node: Node, waitable: Any) -> str:
    return str(node.resolve_service_name(waitable._action_name))


def matches(topic: str, patterns: Any) -> bool:
    return any(fnmatchcase(topic, pattern) for pattern in patterns)


def compare(enclave: str, robot: str, nodes: list[Node], *, namespace: str = "") -> None:
    """Require that the nodes have only what their enclave is granted, and all of it but what is known by name."""
    granted = BY_NAME[enclave].grants(load_robot(robot), namespace=namespace)
    # Emergency stop and status of a device are heard where their message types are installed.
    groups = load_robot(robot).groups
    told = [*estop_feeds(load_robot(robot)).values(), *(f for g in groups for f in make_watch(g).deaf_feeds)]
    feeds = [f"rt*/{feed.topic}" for feed in told] if "safety" in enclave else []
    more = {*ALWAYS_MORE, *NOT_ALWAYS[enclave], *feeds}
    allowed = set(granted.written_topics()), set(granted.read_topics())
    for verb, have, may in zip(("writes", "reads"), endpoints(nodes), allowed, strict=True):
        lacking = sorted(topic for topic in have if not matches(topic, may))
        assert not lacking, f"{enclave} {verb} what wam/ros/security/suite.py does not grant it: {lacking}"
        unused = sorted(topic for topic in may - have if not matches(topic, more))
        assert not unused, f"{enclave} is granted what it never {verb}: {unused}"


@pytest.fixture
def bring_up(ros: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that configures nodes; they are shut down at the end."""
    made: list[Node] = []
    make_server = ActionServer.__init__

    def make_and_name(server: Any, node: Node, kind: Any, name: str, *more: Any, **options: Any) -> None:
        server._action_name = name  # rclpy keeps that of a client only
        make_server(server, node, kind, name, *more, **options)

    monkeypatch.setattr(ActionServer, "__init__", make_and_name)

    def configure(nodes: list[Node]) -> list[Node]:
        made.extend(nodes)
        for node in nodes:
            if hasattr(node, "trigger_configure"):
                assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.last_error
        return nodes

    yield configure
    for node in reversed(made):
        if hasattr(node, "trigger_shutdown"):
            node.trigger_shutdown()
        node.destroy_node()


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("enclave", list(MAKERS))
def test_a_process_is_granted_what_its_nodes_have(enclave: str, robot: str, bring_up: Any) -> None:
    compare(enclave, robot, bring_up(MAKERS[enclave](robot)))


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_dry_run_is_granted_its_preview(robot: str, bring_up: Any) -> None:
    nodes = bring_up(safety(robot, dry_run=True))
    preview = "rt/wam_safety/command_preview"
    assert preview in endpoints(nodes)[0]
    granted = BY_NAME["wam_safety"].grants(load_robot(robot), namespace="").written_topics()
    assert all(matches(topic, granted) for topic in endpoints(nodes)[0])


@pytest.mark.sim
@pytest.mark.parametrize("robot", ROBOTS)
def test_the_simulated_robot_is_granted_what_it_has(robot: str, bring_up: Any) -> None:
    from wam_sim_node.node import SimNode

    nodes = bring_up([SimNode(parameter_overrides=parameters(robot=robot, cameras=False))])
    compare("wam_sim", robot, nodes)


def test_names_follow_the_namespace_of_the_nodes(bring_up: Any) -> None:
    node = SafetyNode(namespace="/lab", parameter_overrides=parameters(robot="piper", dry_run=False))
    compare("wam_safety", "piper", bring_up([node]), namespace="lab")


@pytest.mark.parametrize("robot", ROBOTS)
def test_only_one_process_may_write_each_topic_on_which_motion_depends(robot: str) -> None:
    described = load_robot(robot)
    writers: dict[str, set[str]] = {}
    for enclave in ENCLAVES:
        for topic in enclave.grants(described, namespace="").written_topics():
            writers.setdefault(topic, set()).add(enclave.name)

    def who(topic: str) -> set[str]:
        return {name for pattern, names in writers.items() if fnmatchcase(topic, pattern) for name in names}

    assert who("rt/wam_executor/chunk") == {"wam_executor", "wam_bringup"}
    assert who("rt/wam_planner/context") == {"wam_planner", "wam_bringup"}
    assert who("rt/estop") == {"wam_operator", "wam_estop_button"}
    for group in described.groups:
        assert who(f"rt/{group.command_topic}") == {"wam_safety"}
    for request in ("clear_fault", "estop"):
        assert who(f"rq/wam_safety/{request}Request") <= {"wam_operator", "wam_driver"}
    assert who("rq/wam_safety/set_parametersRequest") == set()


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_vendors_driver_may_write_nothing_of_the_suites(robot: str) -> None:
    described = load_robot(robot)
    denied = denied_to_vendors(described, namespace="")
    assert VENDOR not in BY_NAME
    for name in ("wam_safety", "wam_planner", "wam_executor", "wam_bringup", "wam_operator"):
        for topic in BY_NAME[name].grants(described, namespace="").written_topics():
            common = topic in ("rt/rosout", "rt/parameter_events", "rt/diagnostics", "rt/lock_step")
            own = ROS2_CLI in topic or "/get_type_description" in topic
            moveit = topic in {f"rq/{service}Request" for service in (SERVICE, SCENE_SERVICE)}  # anybody's
            assert common or own or moveit or matches(topic, denied) or "set_parameters" in topic, topic
    assert matches("rq/wam_safety/set_parametersRequest", denied)
    for group in described.groups:
        assert not matches(f"rt/{group.state_topic}", denied), "a driver reports its states"


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_tool_that_listens_can_write_nothing_but_its_log(robot: str) -> None:
    written = BY_NAME["wam_watch"].grants(load_robot(robot), namespace="").written_topics()
    assert {topic for topic in written if topic.startswith(("rt", "rq"))} == {
        "rt/rosout",
        "rt/parameter_events",
    }


@pytest.mark.parametrize("robot", ROBOTS)
def test_only_those_who_need_them_can_read_images(robot: str) -> None:
    described = load_robot(robot)
    camera = f"rt/{described.cameras[0].topic}"
    readers = {
        one.name for one in ENCLAVES if matches(camera, one.grants(described, namespace="").read_topics())
    }
    assert readers == {"wam_planner", "wam_executor", "wam_bringup", "wam_watch"}
