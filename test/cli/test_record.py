# SPDX-License-Identifier: Apache-2.0
"""`wam record` as a process: ended by a signal, killed, and with a full disk, while publishers continue."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from wam.cli.main import run
from wam.data.bag.reading import Recording

rclpy = pytest.importorskip("rclpy")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))
pytestmark = pytest.mark.ros

TIMEOUT_S = 60.0
PERIOD_S = 0.01
FILE_LIMIT = 120_000


class Robot:
    """Publishes joint states, a planner's status and an event, as fast as a robot does."""

    def __init__(self) -> None:
        from rclpy.node import Node
        from sensor_msgs.msg import JointState

        from wam.devices.loader import load_robot
        from wam.ros.qos import EVENT, JOINT_STATE_PUBLISHER, STATUS
        from wam_msgs.msg import PlannerStatus, SafetyEvent

        rclpy.init(args=[])
        self._node = Node("robot")
        group = load_robot("piper").groups[0]
        self.topic = f"/{group.state_topic}"
        self._names = list(group.driver_names)
        self._states = self._node.create_publisher(JointState, group.state_topic, JOINT_STATE_PUBLISHER)
        self._status = self._node.create_publisher(PlannerStatus, "wam_planner/status", STATUS)
        self._events = self._node.create_publisher(SafetyEvent, "wam_safety/event", EVENT)
        self.sent = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.try_shutdown()

    def _publish(self) -> None:
        from sensor_msgs.msg import JointState

        from wam_msgs.msg import PlannerStatus, SafetyEvent

        while not self._stopping.wait(PERIOD_S):
            message = JointState(name=self._names, position=[float(self.sent)] * len(self._names))
            message.header.stamp = self._node.get_clock().now().to_msg()
            self._states.publish(message)
            if self.sent % 20 == 0:
                self._status.publish(PlannerStatus(contract_hash="ab" * 32, instruction="fold the towel"))
                self._events.publish(SafetyEvent(code="chunk_timeout"))
            self.sent += 1


@pytest.fixture
def robot() -> Iterator[Robot]:
    one = Robot()
    yield one
    one.close()


def start(out: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "wam.cli.main", "record", str(out), "--robot", "piper", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    def turn() -> None:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.02)

    wait_until(condition, "what the recording should hold", turn=turn)


def size(out: Path) -> int:
    return sum(path.stat().st_size for path in out.glob("*.mcap"))


def positions(out: Path, topic: str) -> list[float]:
    with Recording(out, lenient=True) as recording:
        return [float(m.message.position[0]) for m in recording.messages([topic], use_stamps=False)]


def test_a_recording_holds_states_events_contract_and_instruction(tmp_path: Path, robot: Robot) -> None:
    process = start(tmp_path / "bag")
    wait_for(process, lambda: size(tmp_path / "bag") > 50_000)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    content = json.loads(out)
    assert content["dropped"] == 0
    assert content["messages"][robot.topic] > 50
    assert "/wam_executor/chunk" in content["silent"]
    with Recording(tmp_path / "bag") as recording:
        assert recording.warnings == recording.skipped == ()
        assert recording.custom["wam.robot"] == "piper"
        assert recording.custom["wam.contract_hash"] == "ab" * 32
        texts = [m.message.data for m in recording.messages(["/instruction"])]
        events = [m.message.code for m in recording.messages(["/wam_safety/event"])]
    assert texts == ["fold the towel"]
    assert events[0] == "chunk_timeout"


def test_a_robot_is_found_by_the_domain_of_the_shell_whatever_it_says_about_profiles(
    tmp_path: Path, robot: Robot
) -> None:
    """A shell that named no domain was given one, and a profile, and the recording heard nothing."""
    shell = {
        name: value for name, value in os.environ.items() if not name.startswith(("FASTDDS_", "CYCLONEDDS_"))
    }
    shell["WAM_DOMAIN_ID"] = str(int(shell["ROS_DOMAIN_ID"]) % 101 + 1)  # of demos; not of a robot
    process = start(tmp_path / "bag", env=shell)
    wait_for(process, lambda: size(tmp_path / "bag") > 50_000)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    assert (
        f"listens on ROS domain {shell['ROS_DOMAIN_ID']} (ROS_DOMAIN_ID), range LOCALHOST"
        in err.splitlines()[0]
    )


def test_a_killed_recording_lacks_less_than_its_last_second(tmp_path: Path, robot: Robot) -> None:
    process = start(tmp_path / "bag")
    wait_for(process, lambda: size(tmp_path / "bag") > 50_000)
    sent = robot.sent
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    found = positions(tmp_path / "bag", robot.topic)
    assert (sent - found[-1]) * PERIOD_S <= 1.0
    assert found == sorted(found)


def test_a_full_disk_ends_the_recording_with_one_line_and_not_the_robot(tmp_path: Path, robot: Robot) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))

    # The log of DDS would meet the limit as well.
    process = start(tmp_path / "bag", preexec_fn=limit)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 3
    assert "the disk does not take more" in err.splitlines()[-1]
    assert "Traceback" not in err
    sent = robot.sent
    wait_until(lambda: robot.sent >= sent + 20, "messages after the fault", turn=lambda: time.sleep(0.02))
    assert len(positions(tmp_path / "bag", robot.topic)) > 100


def test_a_robot_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(
        ["record", str(tmp_path / "bag"), "--robot", "piper", "--namespace", "nobody", "--seconds", "0.3"]
    )
    assert code == 1
    assert "no message of robot piper was received" in capsys.readouterr().err


def test_a_type_that_is_not_installed_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["record", str(tmp_path / "bag"), "--robot", "piper", "--topic", "/x:=lab_msgs/msg/Status"]
    assert run(arguments) == 1
    assert "lab_msgs/msg/Status is not installed" in capsys.readouterr().err
    assert not (tmp_path / "bag").exists()
