# SPDX-License-Identifier: Apache-2.0
"""`wam replay --mode live`: a recording is played to the real nodes, and judged like an offline one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from keep_out import install_keep_out

from wam.cli.main import run
from wam.core.clock import NS_PER_S
from wam.data.bag.topics import ACTION_TOPIC, EPOCH_NS, INSTRUCTION_TOPIC
from wam.data.bag.writing import Storage, new_bag
from wam.data.fakes import fake_image, write_fake_bag
from wam.devices.loader import load_robot
from wam.evaluation.replay.events import read_events
from wam.robots.camera_spec import CameraTransport
from wam.robots.description import RobotDescription

rclpy = pytest.importorskip("rclpy")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))
pytestmark = [pytest.mark.ros, pytest.mark.alone]  # recordings are played in real time

RATE = 30.0


def write_bag(out: Path, robot: RobotDescription, *, seconds: float) -> None:
    """Write a bag with all groups and cameras of `robot`, standing still at the middle of its ranges."""
    limits = robot.limits()
    middle = (limits.lower + limits.upper) / 2
    with new_bag(out, storage=Storage.MCAP, metadata={"wam.robot": robot.name}) as bag:
        bag.text(INSTRUCTION_TOPIC, EPOCH_NS, "stand still")
        for row in range(round(seconds * RATE)):
            stamp_ns = EPOCH_NS + round(row * NS_PER_S / RATE)
            start = 0
            for group in robot.groups:
                part = middle[start : start + len(group.joints)]
                bag.joint_state(f"/{group.state_topic}", stamp_ns, names=group.driver_names, positions=part)
                start += len(group.joints)
            bag.joint_state(ACTION_TOPIC, stamp_ns, names=robot.joint_names, positions=middle)
            for camera in robot.cameras:
                rgb = fake_image(row, height=camera.height, width=camera.width)
                if camera.transport is CameraTransport.RAW:
                    bag.image(f"/{camera.topic}", stamp_ns, frame_id="", rgb=rgb)
                else:
                    data = np.asarray(cv2.imencode(".jpg", rgb[..., ::-1])[1])
                    bag.jpeg(f"/{camera.topic}", stamp_ns, frame_id="", data=data)


def replay(bag: Path, report: Path, robot: str, *options: str, policy: str = "fake") -> int:
    arguments = ["--robot", robot, "--policy", policy, "--report", str(report), "--gate", "none", *options]
    return run(["replay", str(bag), *arguments, "--mode", "live"])


@pytest.mark.parametrize("name", ["g1_inspire", "piper"])
def test_the_nodes_answer_a_recording_and_are_judged_by_the_same_report(tmp_path: Path, name: str) -> None:
    """The G1 was recorded and is never commanded; the Piper has the safety node beside it, dry."""
    write_bag(tmp_path / "bag", load_robot(name), seconds=3.0)
    assert replay(tmp_path / "bag", tmp_path / "report", name) == 0
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["settings"]["mode"] == "live"
    assert summary["settings"]["instruction"] == "stand still"
    assert summary["metrics"]["chunks"] >= 10
    assert summary["metrics"]["coverage"] > 0.5
    assert (tmp_path / "report" / "index.html").is_file()
    chunks = list(read_events(tmp_path / "report" / "events.jsonl", "chunk"))
    stamps = {EPOCH_NS + round(row * NS_PER_S / RATE) for row in range(90)}
    assert {chunk["stamp_ns"] for chunk in chunks} <= stamps, "the nodes saw other times than the recording's"
    assert all(chunk["ready_ns"] >= chunk["stamp_ns"] for chunk in chunks)
    live = name == "piper"
    assert summary["safety"]["source"] == ("live node" if live else "offline filters")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert ("Measured by the live node" in page) == live
    assert ("Measured by the offline filters" in page) != live
    # The last verdict count comes with the diagnostics, at most 1.5 s after the recording.
    metrics = summary["metrics"]
    judged = metrics["safety_ok"] + metrics["safety_changed"] + metrics["safety_refused"]
    assert 0 < judged <= metrics["chunks"] + 15


@pytest.mark.parametrize("kind", ["dust", "aha_wam"])
def test_the_nodes_tell_how_far_off_the_imagination_of_their_policy_was(tmp_path: Path, kind: str) -> None:
    """`imagined_futures` was 0 in live mode, since the policy is in another process."""
    from wam.models.robot_layout import RobotLayout
    from wam.policies.aha_wam.config import Latents
    from wam.policies.bundles import make_tiny_bundle

    robot = load_robot("g1_inspire")
    pixels = {"latents": Latents.PIXELS} if kind == "aha_wam" else {}
    bundle = make_tiny_bundle(tmp_path / kind, kind, robot=RobotLayout.of(robot), overrides=pixels)
    write_bag(tmp_path / "bag", robot, seconds=6.0)
    report = tmp_path / "report"
    assert replay(tmp_path / "bag", report, "g1_inspire", "--imagination", policy=str(bundle.directory)) == 0
    metrics = json.loads((report / "summary.json").read_text())["metrics"]
    assert metrics["imagined_futures"] >= 1
    assert metrics["imagination_mse"] > 0.0
    node = "context" if kind == "aha_wam" else "chunk"
    made = {one["stamp_ns"] for one in read_events(report / "events.jsonl", node)}
    errors = list(read_events(report / "events.jsonl", "imagination"))
    assert {error["stamp_ns"] for error in errors} & made
    assert all(error["target_stamp_ns"] > error["stamp_ns"] for error in errors)


def test_a_chunk_that_the_live_node_refuses_shows_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The safety figures of a live replay once came from a second safety cycle in the replaying process."""
    module = install_keep_out(tmp_path, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    write_bag(tmp_path / "bag", load_robot("piper"), seconds=3.0)
    report = tmp_path / "report"
    assert replay(tmp_path / "bag", report, "piper", "--extra-filter", f"{module}:make_hold") == 0
    summary = json.loads((report / "summary.json").read_text())
    assert summary["safety"]["source"] == "live node"
    # The first chunk was refused already, so the arm never left HOLD.
    assert summary["safety"]["findings"]["keep_out"]["chunks"] >= 1
    assert summary["metrics"]["safety_refused"] > 0
    assert summary["metrics"]["safety_nominal_share"] == 0.0
    assert summary["metrics"]["safety_hold_share"] == 1.0
    moves = list(read_events(report / "events.jsonl", "ladder"))
    assert any(move["code"] == "keep_out" and "would reach" in move["text"] for move in moves)
    assert not list(read_events(report / "events.jsonl", "verdict")), "verdicts of a cycle in this process"
    assert "would reach" in (report / "index.html").read_text(encoding="utf-8")


def test_latencies_cannot_be_set_for_nodes_that_have_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake_bag(tmp_path / "bag", robot=load_robot("g1_inspire"), seconds=0.5)
    assert replay(tmp_path / "bag", tmp_path / "report", "g1_inspire", "--planner-latency", "0.2") == 1
    assert "latencies with --mode live" in capsys.readouterr().err


def test_nothing_is_played_where_a_driver_is_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rclpy.context import Context
    from rclpy.node import Node
    from sensor_msgs.msg import JointState

    robot = load_robot("g1_inspire")
    write_fake_bag(tmp_path / "bag", robot=robot, seconds=0.5)
    context = Context()
    rclpy.init(context=context, args=[])
    driver = Node("driver", context=context)
    driver.create_publisher(JointState, robot.groups[0].state_topic, 1)
    try:
        assert replay(tmp_path / "bag", tmp_path / "report", "g1_inspire") == 1
    finally:
        driver.destroy_node()
        rclpy.try_shutdown(context=context)
    assert "has another publisher" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
