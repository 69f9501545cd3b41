# SPDX-License-Identifier: Apache-2.0
"""`~/safety_status` and the audit file of a safety node over real DDS."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
pytest.importorskip("wam_msgs.msg", reason="wam_msgs is not built (make setup)")

from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import LivelinessPolicy, QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from safety_bench import Bench
from std_msgs.msg import Bool

from wam.core.ladder import DegradeLadder, finding
from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.ros.qos import SAFETY_STATUS
from wam.runtime.safety.inputs import InputLog
from wam_msgs.msg import SafetyStatus
from wam_safety_node.status import SafetyState

pytestmark = pytest.mark.ros

TOPIC = "wam_safety/safety_status"
LATE_READER = QoSProfile(
    depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
)


def listen(bench: Bench) -> list[SafetyStatus]:
    seen: list[SafetyStatus] = []
    bench.arms.create_subscription(SafetyStatus, TOPIC, seen.append, LATE_READER)
    return seen


def ages(status: SafetyStatus) -> dict[str, float]:
    return {one.name: one.age for one in status.inputs}


def records(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_status_says_what_holds_the_arm_and_how_old_every_input_is(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    arms = bench.arms
    seen = listen(bench)
    assert bench.safety.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert arms.wait_for(lambda: seen), "an inactive node says so"
    assert not seen[-1].active
    assert seen[-1].silent
    assert seen[-1].held
    assert math.isnan(ages(seen[-1])["chunk"])
    assert bench.safety.trigger_activate() == TransitionCallbackReturn.SUCCESS
    arms.sending = True
    assert arms.wait_for(lambda: seen[-1].rung == Ladder.NOMINAL)
    moving = seen[-1]
    assert (moving.active, moving.silent, moving.held, moving.dry_run) == (True, False, False, False)
    assert (moving.code, moving.text, moving.estop) == ("", "", SafetyStatus.ESTOP_CLEAR)
    assert 0.0 < moving.rate <= 1.0
    assert moving.commands > 0
    assert {"joint_state/left", "joint_state/right", "chunk", "context"} <= ages(moving).keys()
    assert all(math.isfinite(ages(moving)[name]) for name in ("joint_state/left", "chunk", "context"))
    assert ages(moving)["context"] > ages(moving)["chunk"]
    count = seen[-1].sequence
    assert arms.wait_for(lambda: seen[-1].sequence > count + 2), "it is repeated without a change"


def test_an_emergency_stop_is_told_as_pressed_then_as_latched(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    seen = listen(bench)
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    assert arms.wait_for(arms.estop.get_subscription_count)
    arms.estop.publish(Bool(data=True))
    assert arms.wait_for(lambda: seen and seen[-1].estop == SafetyStatus.ESTOP_PRESSED)
    assert arms.wait_for(lambda: seen[-1].rung == Ladder.STOP)
    assert seen[-1].code == "estop"
    assert seen[-1].held
    assert arms.wait_for(lambda: seen[-1].rate == 0.0)
    arms.estop.publish(Bool(data=False))
    assert arms.wait_for(lambda: seen[-1].estop == SafetyStatus.ESTOP_LATCHED)
    assert bench.call("clear_fault").success
    assert arms.wait_for(lambda: seen[-1].estop == SafetyStatus.ESTOP_CLEAR)


def test_a_reader_can_tell_a_node_that_has_gone() -> None:
    """A latched status without a lifespan would be shown as the present state of a node that was killed."""
    assert SAFETY_STATUS.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
    assert SAFETY_STATUS.lifespan.nanoseconds == 1_000_000_000
    assert SAFETY_STATUS.deadline.nanoseconds == 1_000_000_000
    assert SAFETY_STATUS.liveliness == LivelinessPolicy.AUTOMATIC
    assert SAFETY_STATUS.liveliness_lease_duration.nanoseconds == 1_000_000_000


def test_a_stop_is_recorded_with_its_cause_and_the_commands_that_led_to_it(
    make_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = make_bench(audit_dir=str(tmp_path))
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    bench.more_commands(150)
    assert bench.call("estop").success
    assert arms.wait_for(lambda: arms.saw("estop"))
    bench.more_commands(5)
    assert bench.safety.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert bench.safety.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    kinds = [one["kind"] for one in records(tmp_path)]
    assert kinds[0] == "activated"
    assert kinds[-1] == "deactivated"
    (stop,) = (one for one in records(tmp_path) if one.get("to") == "STOP")
    assert (stop["from"], stop["code"], stop["robot"]) == ("NOMINAL", "estop", "piper")
    assert set(stop["measured"]) == set(arms.robot.joint_names)
    assert 95 <= len(stop["commands"]) <= 100
    left = stop["command_joints"].index("left_joint1") + 1
    recorded = np.array([row[left : left + 7] for row in stop["commands"]])
    sent = np.array(arms.commands["left"])
    same = np.abs(sent[:, None] - recorded[None]).max(axis=2) < 2e-5
    # A reader of depth 1 may miss any of them, the first one too.
    first = np.flatnonzero(same.any(axis=0))[0]
    received = sent[np.flatnonzero(same[:, first])[0] :][:50]
    assert first < 5
    distances = np.abs(received[:, None] - recorded[None]).max(axis=2).min(axis=1)
    assert len(received) == 50
    assert distances.max() < 2e-5


def test_an_audit_directory_that_cannot_be_written_never_stops_the_arm(
    make_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    bench = make_bench(audit_dir=str(tmp_path / "file"))
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    bench.more_commands(50)
    assert bench.rung is Ladder.NOMINAL
    state = bench.safety._state
    assert state is not None
    assert "the audit file is not written" in state.audit_problem


def test_no_audit_file_is_written_where_that_was_asked_for(
    make_bench: Callable[..., Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    bench = make_bench(audit_dir="")
    bench.activate()
    assert bench.arms.wait_for(lambda: all(bench.arms.commands.values()))
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_was_read_before_a_stop_is_not_published_after_it() -> None:
    """The timer had read HOLD and was put aside; the command thread published STOP, and then the timer its HOLD, which
    stayed as the latched state until the next period."""
    published: list[SafetyStatus] = []
    done, ladder, others = threading.Event(), DegradeLadder(), []
    cycle: Any = SimpleNamespace(ladder=ladder, efforts=None, rested=threading.Event(), rate=0.5, scale=1.0)
    node: Any = SimpleNamespace(
        clock=SimpleNamespace(now_ns=lambda: 1),
        create_publisher=lambda *_: SimpleNamespace(publish=published.append),
    )

    def command_thread() -> None:
        state.publish()
        done.set()

    def estops() -> tuple[()]:
        if not others:
            ladder.update([finding("estop")])
            others.append(threading.Thread(target=command_thread))
            others[0].start()
            done.wait(
                0.2
            )  # it may finish first, or have to wait for this one: the newest word is what counts
        return ()

    robot = load_robot("piper")
    state = SafetyState(
        node, robot, cycle, InputLog({}), estops=estops, tick_ns=10**7, dry_run=False, audit_dir=""
    )
    state.publish()
    others[0].join()
    assert [one.rung for one in published] == [Ladder.HOLD, Ladder.STOP]
    assert [one.sequence for one in published] == [1, 2]
