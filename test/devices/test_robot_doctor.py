# SPDX-License-Identifier: Apache-2.0
"""`wam doctor --robot`: what is heard of a driver, and what is said of it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wam.cli import main as cli
from wam.core.errors import ConfigError
from wam.devices.doctor import GroupReport, examine, judge, judge_all, of_this_group
from wam.devices.loader import load_robot
from wam.devices.state import DriverState, Readiness, person, service

PIPER_OK = {"arm_status": 0, "ctrl_mode": 1, "limited_joints": [], "silent_joints": []}
UR_OK = {"robot_mode": 7, "safety_mode": 1, "program_running": True, "scaling": 1.0}


def heard(group: str, **changes: Any) -> dict[str, Any]:
    return {
        "group": group,
        "driver": "piper",
        "state_topic": "left/joint_states_single",
        "publishers": ["/left/piper_ctrl_single_node"],
        "same_name_elsewhere": [],
        "messages": 400,
        "distinct_stamps": 400,
        "rate": 200.0,
        "age_ns": 3_000_000,
        "least_age_ns": 1_000_000,
        "error": "",
        "lacking": [],
        "values": PIPER_OK,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "can_mode"),
        ({"publishers": []}, "no_driver"),
        ({"publishers": [], "same_name_elsewhere": ["/robot_1/left/joint_states_single"]}, "other_namespace"),
        ({"publishers": ["/left/a", "/left/b"]}, "two_publishers"),
        ({"messages": 0, "distinct_stamps": 0, "rate": 0.0}, "silent"),
        ({"error": "joint state lacks joint4"}, "bad_joint_states"),
        ({"age_ns": 5 * 10**9}, "stale_stamps"),
        ({"age_ns": -(5 * 10**9)}, "stale_stamps"),
        ({"least_age_ns": -4_000_000}, "clock_offset"),
        ({"distinct_stamps": 1, "age_ns": 2 * 10**9}, "can_lost"),
        ({"rate": 40.0}, "slow"),
        ({"lacking": ["piper_status"], "values": {}}, "status_unseen"),
        ({"values": {**PIPER_OK, "arm_status": 7}}, "collision"),
        ({"values": {**PIPER_OK, "ctrl_mode": 2}}, "teaching"),
        ({"values": {**PIPER_OK, "ctrl_mode": 0}}, "not_enabled"),
        ({"values": {**PIPER_OK, "silent_joints": ["joint5"]}}, "joint_communication"),
    ],
)
def test_each_fault_of_a_piper_has_its_code(changes: dict[str, Any], code: str) -> None:
    state = judge(load_robot("piper").group("left"), heard("left", **changes))
    assert state.code == code
    assert state.commandable or state.steps


@pytest.mark.parametrize(
    ("values", "lacking", "code"),
    [
        (UR_OK, [], "running"),
        ({**UR_OK, "safety_mode": 3}, [], "protective_stop"),
        ({**UR_OK, "program_running": False}, [], "program_not_running"),
        ({"program_running": True, "scaling": 1.0}, ["ur_robot_mode", "ur_safety_mode"], "modes_unseen"),
        ({}, [], "scaling_unknown"),
    ],
)
def test_a_ur_is_judged_by_its_modes(values: dict[str, Any], lacking: list[str], code: str) -> None:
    group = load_robot("ur5e_inspire").group("arm")
    state = judge(group, heard("arm", rate=500.0, values=values, lacking=lacking))
    assert state.code == code


@pytest.mark.parametrize(
    ("values", "lacking", "code"),
    [
        ({"robot_mode": 2, "success_rate": 0.99, "errors": [], "last_errors": []}, [], "move"),
        ({"robot_mode": 4, "success_rate": 0.0, "errors": ["joint_reflex"], "last_errors": []}, [], "reflex"),
        ({}, ["franka_state"], "status_unseen"),
        ({}, [], "fake_hardware"),
    ],
)
def test_a_franka_is_judged_by_its_mode(values: dict[str, Any], lacking: list[str], code: str) -> None:
    group = load_robot("franka").group("arm")
    assert judge(group, heard("arm", rate=1000.0, values=values, lacking=lacking)).code == code


HAND = {
    "state": "hand_protecting",
    "readiness": "blocked",
    "text": "the hand stopped closing: 71 degC",
    "remedy": "wait; then clear the hand's errors (service wam_driver/clear_errors)",
}


@pytest.mark.parametrize(
    ("changes", "code", "readiness"),
    [
        ({"values": {}}, "no_status", Readiness.READY),
        ({"values": {**HAND, "state": "hand_ready", "readiness": "ready"}}, "hand_ready", Readiness.READY),
        ({"values": HAND}, "hand_protecting", Readiness.BLOCKED),
        (
            {"values": {**HAND, "state": "hand_lost", "readiness": "absent"}, "messages": 0, "rate": 0.0},
            "hand_lost",
            Readiness.ABSENT,
        ),
        ({"values": HAND, "messages": 0, "rate": 0.0}, "silent", Readiness.ABSENT),
        ({"values": HAND, "publishers": []}, "no_driver", Readiness.ABSENT),
    ],
)
def test_a_hand_is_judged_by_what_its_driver_reports(
    changes: dict[str, Any], code: str, readiness: Readiness
) -> None:
    """It was `no_status`, whatever its driver said in /diagnostics."""
    seen = heard("hand", **{"rate": 40.0, **changes})
    report = GroupReport("hand", judge(load_robot("ur5e_inspire").group("hand"), seen))
    assert (report.state.code, report.state.readiness) == (code, readiness)
    if code == "hand_protecting":
        assert "wam_driver/clear_errors" in report.remedy


def test_what_a_driver_reports_is_read_as_it_was_meant() -> None:
    from types import SimpleNamespace as Message

    from wam.devices.registry import make_watch
    from wam.devices.reported import report
    from wam.devices.watch import Seen

    told = DriverState(
        Readiness.BLOCKED, "x", "too hot", (person("wait"), service("~/clear_errors", "clear"))
    )
    pairs = [Message(key=f"hand/{key}", value=value) for key, value in report(told).items()]
    others = [Message(name="wam_safety: cycle", values=[]), Message(name="wam_driver: driving", values=pairs)]
    watch = make_watch(load_robot("ur5e_inspire").group("hand"))
    (feed,) = watch.feeds
    state = watch.state(Seen(0, feed.read(Message(status=others))))
    assert (state.code, state.readiness) == (told.code, told.readiness)
    assert state.steps == (person("wait; then clear (service wam_driver/clear_errors)"),)
    assert feed.read(Message(status=others[:1])) == {}


@pytest.mark.parametrize(
    ("topic", "other", "names", "found"),
    [
        ("joint_states", "hand/joint_states", ["/hand/joint_states"], []),
        ("joint_states", "hand/joint_states", ["/lab/hand/joint_states"], []),
        ("joint_states", "hand/joint_states", ["/lab/joint_states"], ["/lab/joint_states"]),
        ("hand/joint_states", "joint_states", ["/joint_states", "/lab/joint_states"], []),
        ("hand/joint_states", "joint_states", ["/lab/hand/joint_states"], ["/lab/hand/joint_states"]),
        ("left/states", "right/states", ["/right/states", "/states"], ["/states"]),
        ("left/states", "right/states", ["/lab/left/states", "/left/other"], ["/lab/left/states"]),
    ],
)
def test_the_topic_of_another_group_is_not_that_of_a_group_elsewhere(
    topic: str, other: str, names: list[str], found: list[str]
) -> None:
    """With only the hand's driver up, its topic was said to be the arm's in another namespace."""
    assert of_this_group(names, topic, [other]) == found


def test_a_franka_that_is_silent_is_brought_back_through_its_controller_manager() -> None:
    """After a reflex its broadcasters are inactive: it was said to look whether the arm is switched on."""
    report = GroupReport(
        "arm", judge(load_robot("franka").group("arm"), heard("arm", messages=0, distinct_stamps=0, rate=0.0))
    )
    assert report.state.code == "hardware_down"
    assert "[service controller_manager/set_hardware_component_state]" in report.remedy
    assert report.remedy.endswith("ros2 service call /wam_driver/recover std_srvs/srv/Trigger")


def test_the_offset_of_a_streams_clock_is_shown_whatever_its_device_says() -> None:
    state = judge(load_robot("piper").group("left"), heard("left", values={**PIPER_OK, "arm_status": 7}))
    assert state.code == "collision"
    assert state.text.endswith("stamp to receipt 3.0 ms, least 1.0 ms")


def test_groups_that_were_not_listened_to_are_left_out() -> None:
    reports = judge_all(load_robot("piper"), {"groups": [heard("right")], "cameras": []})
    assert [report.group for report in reports] == ["right"]


def seen_camera(**changes: Any) -> dict[str, Any]:
    return {
        "camera": "head",
        "publishers": ["/head/camera"],
        "messages": 60,
        "distinct_stamps": 60,
        "rate": 30.0,
        "age_ns": 40_000_000,
        "least_age_ns": 30_000_000,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"publishers": [], "messages": 0, "rate": 0.0}, "no_camera", "has no publisher"),
        ({}, "images", "stamp to receipt 40.0 ms, least 30.0 ms"),
        ({"messages": 0, "distinct_stamps": 0, "rate": 0.0}, "silent", "no image arrives"),
        ({"messages": 4, "rate": 2.0}, "slow", "nominal 15 Hz"),
        ({"age_ns": 10**9}, "stale_stamps", "images are 1000 ms old on arrival"),
        ({"least_age_ns": -(10**7)}, "clock_offset", "ahead by 10.0 ms or more"),
    ],
)
def test_a_camera_is_judged_by_rate_and_clock(changes: dict[str, Any], code: str, words: str) -> None:
    """One without a publisher had no line at all: "0 failures" was said of a robot that would wait for ever."""
    (report,) = judge_all(load_robot("piper"), {"groups": [], "cameras": [seen_camera(**changes)]})
    assert (report.group, report.state.code) == ("camera head", code)
    assert words in report.state.text
    assert report.state.readiness is Readiness.READY or report.remedy


def test_a_remedy_numbers_the_steps_and_warns_of_motion() -> None:
    state = DriverState(
        Readiness.BLOCKED, "x", "x", (person("look"), service("enable_srv", "enable", moves=True))
    )
    assert GroupReport("a", state).remedy == "1. look\n2. enable [service enable_srv] (the robot may move)"


def test_calls_that_do_not_move_the_robot_are_offered_at_once() -> None:
    report = GroupReport(
        "arm",
        judge(load_robot("ur5e_inspire").group("arm"), heard("arm", values={**UR_OK, "safety_mode": 3})),
    )
    assert "[service dashboard_client/unlock_protective_stop]" in report.remedy
    assert report.remedy.endswith("ros2 service call /wam_driver/recover std_srvs/srv/Trigger")


def test_an_unknown_robot_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no such robot"):
        examine("r2d2")


def test_what_cannot_listen_says_why() -> None:
    (report,) = examine("piper", {**os.environ, "RMW_IMPLEMENTATION": "rmw_nonsense"})
    assert report.state.code == "cannot_listen"
    assert report.state.readiness is Readiness.ABSENT


@pytest.fixture
def publish() -> Iterator[Callable[..., None]]:
    """Publishes joint states of a Piper arm every 5 ms in a thread, until the test ends."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from sensor_msgs.msg import JointState

    from wam.ros.qos import JOINT_STATE_PUBLISHER

    rclpy.init(args=[])
    node, executor = Node("piper_stand_in"), SingleThreadedExecutor()
    executor.add_node(node)

    def start(topic: str, names: list[str], positions: list[float], *, stopped: bool = False) -> None:
        publisher = node.create_publisher(JointState, topic, JOINT_STATE_PUBLISHER)
        first = node.get_clock().now().to_msg()

        def tick() -> None:
            message = JointState(name=names, position=positions)
            message.header.stamp = first if stopped else node.get_clock().now().to_msg()
            publisher.publish(message)

        node.create_timer(0.005, tick)

    end = threading.Event()

    def spin() -> None:
        while not end.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    yield start
    end.set()
    thread.join()
    node.destroy_node()
    executor.shutdown()
    rclpy.try_shutdown()


@pytest.mark.ros
def test_it_listens_to_real_drivers(publish: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One arm in degrees, the other with a dead CAN bus behind a driver that goes on publishing."""
    names = [*(f"joint{i}" for i in range(1, 7)), "gripper"]
    publish("left/joint_states_single", names, [0.0, 75.0, -60.0, 0.0, 40.0, 0.0, 0.05])
    publish("right/joint_states_single", names, [0.0, 1.3, -1.0, 0.0, 0.7, 0.0, 0.05], stopped=True)
    assert cli.run(["doctor", "--robot", "piper", "--json"]) == 2
    network, left, right, camera = json.loads(capsys.readouterr().out)["checks"]
    assert "range LOCALHOST" in network["found"]
    assert left["name"] == "piper: left"
    assert left["found"].startswith("bad_joint_states: ")
    assert "degrees are likely" in left["found"]
    assert right["found"].startswith("can_lost: ")
    assert "bitrate 1000000" in right["remedy"]
    assert camera["found"].startswith("no_camera: ")


@pytest.mark.ros
def test_with_only_the_hands_driver_up_the_hand_has_its_state_and_the_arm_no_driver(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The hand's topic was named as the arm's, and the hand was `no_status` although its driver is there."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter

    from wam_driver_node.node import DriverNode

    rclpy.init(args=[])
    driver = DriverNode(parameter_overrides=[Parameter("robot", value="ur5e_inspire")])
    executor, end = SingleThreadedExecutor(), threading.Event()
    executor.add_node(driver)
    assert driver.trigger_configure(), driver.last_error
    assert driver.trigger_activate(), driver.last_error

    def spin() -> None:
        while not end.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        cli.run(["doctor", "--robot", "ur5e_inspire", "--json"])
    finally:
        end.set()
        thread.join()
        driver.trigger_shutdown()
        driver.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
    _, arm, hand, *cameras = json.loads(capsys.readouterr().out)["checks"]
    assert arm["found"].startswith("no_driver: ")
    assert hand["found"].startswith("hand_write_disabled: wam_driver: the hand is read only")
    assert "service wam_driver/enable" in hand["remedy"]
    assert [one["name"] for one in cameras] == ["ur5e_inspire: camera static", "ur5e_inspire: camera wrist"]


@pytest.mark.ros
def test_without_any_driver_it_says_what_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "--robot", "ur5e_inspire", "--json"]) == 2
    checks = json.loads(capsys.readouterr().out)["checks"][1:]
    parts = ("arm", "hand", "camera static", "camera wrist")
    assert [check["name"] for check in checks] == [f"ur5e_inspire: {part}" for part in parts]
    assert all(check["found"].startswith("no_driver: ") for check in checks[:2])
    assert all(check["found"].startswith("no_camera: ") for check in checks[2:])


def test_late_stamps_are_load_or_clocks_and_early_ones_are_clocks_alone() -> None:
    """On one busy computer the advice was to synchronise "the clocks of both computers"."""
    arm = load_robot("piper").group("left")
    late, early = (judge(arm, heard("left", age_ns=age)).steps[0].text for age in (10**9, -(10**9)))
    assert late.startswith("this computer is busy")
    assert "synchronise the clocks" in late
    assert early.startswith("synchronise the clocks")


@pytest.mark.parametrize(
    ("profile", "words"), [(False, "without a profile"), (True, "this computer is busy")]
)
def test_a_slow_camera_is_not_told_to_set_the_profile_that_is_set(profile: bool, words: str) -> None:
    """It was, on a busy computer whose shell had it."""
    seen = seen_camera(messages=4, rate=2.0, profile=profile)
    (report,) = judge_all(load_robot("piper"), {"groups": [], "cameras": [seen]})
    assert report.state.code == "slow"
    assert words in report.remedy


@pytest.mark.ros
def test_the_listener_tells_whether_its_shell_has_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    from wam.robots.paths import config_dir
    from wam_driver_node.listen import look

    for path in ("", str(config_dir() / "dds" / "fastdds_shm.xml")):
        monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", path)
        (camera,) = look("piper", 0.1, [])["cameras"]
        assert camera["profile"] == bool(path)
