# SPDX-License-Identifier: Apache-2.0
"""One replay from recording to report: the same bytes every time, and every fault told instead of hidden."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from rosbags.typesys import Stores, get_typestore

from wam.core.errors import ConfigError, ContractMismatch, PolicyFault, RecordingError
from wam.core.fakes import FakeExecutor
from wam.core.policy import LoadedPolicy, RoutedContext, StageBackend
from wam.data.bag.binding import TopicNames
from wam.data.bag.reading import Recording
from wam.data.bag.record import RecordFile
from wam.data.bag.writing import Storage
from wam.data.fakes import fake_robot, fake_trajectory, write_fake_bag
from wam.evaluation.metrics.gate import Gate, parse_gate, read_gate
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.events import read_events
from wam.evaluation.replay.session import ReplayOutcome, replay
from wam.robots.camera_spec import CameraTransport
from wam.robots.description import JointKind, RobotDescription
from wam.runtime.policy import PolicyRequest, load_fake

MS = 1_000_000
ROBOT = fake_robot()
SETTINGS = ReplaySettings(planner_latency_ns=100 * MS, executor_latency_ns=50 * MS, planner_period_ns=0)
EPOCH_NS = 1_600_000_000 * 10**9


def loaded(robot: RobotDescription = ROBOT) -> LoadedPolicy:
    return load_fake(PolicyRequest("fake", planner=True, executor=True), robot=robot)


def go(
    bag: Path,
    report: Path,
    *,
    robot: RobotDescription = ROBOT,
    policy: LoadedPolicy | None = None,
    settings: ReplaySettings = SETTINGS,
    **options: Any,
) -> ReplayOutcome:
    chosen = ReplayOptions(bag=bag, policy_name="fake", settings=settings, **options)
    return replay(chosen, robot=robot, policy=policy or loaded(robot), report=report)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    write_fake_bag(tmp_path / "in" / "bag", robot=ROBOT, seconds=2.0)
    return tmp_path / "in" / "bag"


def test_repeating_a_run_gives_the_same_bytes(tmp_path: Path, bag: Path) -> None:
    for name in ("a", "b"):
        go(bag, tmp_path / name)
    for file in ("summary.json", "events.jsonl", "timeline.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "events.jsonl",
        "index.html",
        "summary.json",
        "timeline.parquet",
        "timing.json",
    ]


def test_storage_and_order_of_the_file_do_not_change_what_comes_out(tmp_path: Path, bag: Path) -> None:
    write_fake_bag(tmp_path / "sql" / "bag", robot=ROBOT, seconds=2.0, storage=Storage.SQLITE3)
    go(bag, tmp_path / "a")
    go(tmp_path / "sql" / "bag", tmp_path / "b")
    assert (tmp_path / "a" / "events.jsonl").read_bytes() == (tmp_path / "b" / "events.jsonl").read_bytes()


class Oracle(FakeExecutor):
    """Knows the recorded action; its rows are it plus `error`."""

    error = 0.0

    def act(self, routed: RoutedContext[Any], *, proprio: Any) -> Any:
        """Return the recorded action from the routed image on."""
        chunk = super().act(routed, proprio=proprio)
        first = round((chunk.stamp_ns - EPOCH_NS) * 30e-9)
        rows = fake_trajectory(first + 1 + len(chunk.rows), 3)[first + 1 :] + self.error
        return replace(chunk, rows=rows)


def test_a_policy_that_knows_the_action_has_no_error_and_an_offset_shows_as_such(
    tmp_path: Path, bag: Path
) -> None:
    policy = loaded()
    oracle = Oracle(policy.contract)
    summary = go(bag, tmp_path / "a", policy=replace(policy, executor=oracle)).summary
    assert summary["metrics"]["action_l1"] == pytest.approx(0.0, abs=1e-6)
    assert summary["metrics"]["executed_l1"] == pytest.approx(0.0, abs=1e-6)
    assert summary["metrics"]["seam_jump_max"] == pytest.approx(0.0, abs=1e-6)
    assert summary["metrics"]["skill"] == pytest.approx(1.0, abs=1e-4)
    assert summary["intervals"]["better_than_hold_rate"]["value"] == 1.0
    oracle.error = 0.25
    summary = go(bag, tmp_path / "b", policy=replace(policy, executor=oracle)).summary
    assert summary["metrics"]["action_l1"] == pytest.approx(0.25, abs=1e-6)
    assert summary["metrics"]["action_mse"] == pytest.approx(0.0625, abs=1e-6)
    assert summary["metrics"]["action_mse_normalised"] == pytest.approx(0.0625 / 36, abs=1e-6)
    assert summary["per_joint"]["j1"]["l1"] == pytest.approx(0.25, abs=1e-6)
    assert summary["per_step"]["l1"] == pytest.approx([0.25] * 16, abs=1e-6)
    assert summary["per_joint"]["j1"]["jerk_rms"] == pytest.approx(
        summary["per_joint"]["j1"]["reference_jerk_rms"], rel=0.01
    )


def test_a_group_has_means_in_units_only_where_its_joints_share_one(tmp_path: Path, bag: Path) -> None:
    """The error of a group of revolute joints and a gripper was a mean of radians and metres, without a word."""
    whole = go(bag, tmp_path / "out").summary["per_group"]["body"]
    assert whole["unit"] == "rad"
    assert whole["l1"] > 0
    group = ROBOT.groups[0]
    slides = replace(group, joints=(*group.joints[:2], replace(group.joints[2], kind=JointKind.PRISMATIC)))
    mixed = go(bag, tmp_path / "mixed", robot=replace(ROBOT, groups=(slides,))).summary["per_group"]["body"]
    assert (mixed["unit"], mixed["mse"], mixed["l1"], mixed["executed_l1"]) == (None, None, None, None)
    assert mixed["l1_normalised"] == whole["l1_normalised"]


def test_the_safety_chain_judges_every_chunk_from_where_the_robot_was(tmp_path: Path, bag: Path) -> None:
    policy = loaded()
    oracle = Oracle(policy.contract)
    summary = go(bag, tmp_path / "a", policy=replace(policy, executor=oracle)).summary
    assert summary["metrics"]["safety_ok"] == summary["metrics"]["chunks"]
    assert summary["safety"] == {
        "source": "offline filters",
        "findings": {},
        "ladder": {},
        "not_checked": "fake has no model",
    }
    assert summary["metrics"]["safety_nominal_share"] > 0.99
    oracle.error = 0.8  # max_jump of the robot is 0.5 rad
    summary = go(bag, tmp_path / "b", policy=replace(policy, executor=oracle)).summary
    assert summary["metrics"]["safety_refused_rate"] == 1.0
    assert summary["safety"]["findings"]["jump"]["chunks"] == summary["metrics"]["chunks"]
    verdicts = list(read_events(tmp_path / "b" / "events.jsonl", "verdict"))
    assert [event["sequence"] for event in verdicts] == list(range(1, len(verdicts) + 1))
    assert {event["verdict"] for event in verdicts} == {"HOLD"}
    assert {event["findings"][0] for event in verdicts} == {"jump"}
    assert summary["metrics"]["safety_hold_share"] == 1.0


def test_ages_and_offsets_are_those_of_the_latencies(tmp_path: Path, bag: Path) -> None:
    metrics = go(bag, tmp_path / "r").summary["metrics"]
    # A plan takes 100 ms and is used for 100 ms: the context's image is 2 to 6 rows of 33 ms older.
    assert 2 <= metrics["phase_offset_p50_rows"] <= metrics["phase_offset_max_rows"] <= 6
    assert metrics["image_to_chunk_p50_s"] == pytest.approx(0.05, abs=0.034)
    assert metrics["coverage"] == 1.0
    assert metrics["chunk_rate_hz"] == pytest.approx(10, abs=1)


def test_events_hold_every_chunk_with_its_rows_and_score(tmp_path: Path, bag: Path) -> None:
    outcome = go(bag, tmp_path / "r")
    chunks = list(read_events(tmp_path / "r" / "events.jsonl", "chunk"))
    scores = list(read_events(tmp_path / "r" / "events.jsonl", "score"))
    assert len(chunks) == outcome.summary["metrics"]["chunks"]
    assert np.shape(chunks[0]["rows"]) == (16, 3)
    assert [score["sequence"] for score in scores] == [chunk["sequence"] for chunk in chunks]
    assert np.mean([score["l1"] for score in scores]) == pytest.approx(
        outcome.summary["metrics"]["action_l1"]
    )


def test_without_a_recorded_action_the_measured_state_stands_in_and_is_named(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=2.0, action=False)
    summary = go(tmp_path / "bag", tmp_path / "r").summary
    assert summary["settings"]["reference"] == "measured state"
    assert any("no action was recorded" in warning for warning in summary["warnings"])
    assert summary["metrics"]["action_l1"] > 0


def test_a_bag_of_another_robot_is_refused_and_lenient_warns(tmp_path: Path, bag: Path) -> None:
    other = replace(ROBOT, name="other")
    with pytest.raises(RecordingError, match="is of another robot: got 'fake'; allowed: other"):
        go(bag, tmp_path / "r", robot=other)
    assert not (tmp_path / "r").exists()
    summary = go(bag, tmp_path / "r", robot=other, lenient=True).summary
    assert any("another robot" in warning for warning in summary["warnings"])


def test_a_missing_camera_topic_is_refused_with_what_there_is(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=1.0, images=False)
    with pytest.raises(RecordingError, match=r"no topic /cam_high/image_raw/compressed for camera cam_high"):
        go(tmp_path / "bag", tmp_path / "r")


def test_a_camera_topic_of_another_type_is_refused(tmp_path: Path) -> None:
    raw = fake_robot(transport=CameraTransport.RAW)
    robot = replace(raw, cameras=(replace(raw.cameras[0], topic=ROBOT.cameras[0].topic),))
    write_fake_bag(tmp_path / "bag", robot=robot, seconds=1.0)
    with pytest.raises(
        RecordingError, match=r"got 'sensor_msgs/msg/Image'; allowed: sensor_msgs/msg/CompressedImage"
    ):
        go(tmp_path / "bag", tmp_path / "r")


def test_a_namespace_is_offered_and_taken(tmp_path: Path) -> None:
    group, camera = ROBOT.groups[0], ROBOT.cameras[0]
    inside = replace(
        ROBOT,
        groups=(replace(group, state_topic="lab/joint_states"),),
        cameras=(replace(camera, topic=f"lab/{camera.topic}"),),
    )
    write_fake_bag(tmp_path / "bag", robot=inside, seconds=1.0)
    with pytest.raises(RecordingError, match="--namespace lab"):
        go(tmp_path / "bag", tmp_path / "r")
    go(tmp_path / "bag", tmp_path / "r", names=TopicNames(namespace="/lab/"))
    renamed = {"joint_states": "/lab/joint_states", camera.topic: f"/lab/{camera.topic}"}
    go(tmp_path / "bag", tmp_path / "r", names=TopicNames(renamed=renamed))


def test_a_missing_joint_stops_the_replay_and_lenient_tells_why_nothing_came(
    tmp_path: Path, bag: Path
) -> None:
    bigger = fake_robot(joints=4)
    with pytest.raises(RecordingError, match=r"lacks d3: got .* or pass --lenient"):
        go(bag, tmp_path / "r", robot=bigger)
    with pytest.raises(RecordingError, match="no chunk came out"):
        go(bag, tmp_path / "r", robot=bigger, lenient=True)
    assert not (tmp_path / "r").exists()


def test_an_image_of_another_size_is_refused(tmp_path: Path, bag: Path) -> None:
    with pytest.raises(RecordingError, match=r"camera 'cam_high'.*64x48"):
        go(bag, tmp_path / "r", robot=fake_robot(height=96, width=128))


def test_a_bag_too_short_for_a_chunk_says_so(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=0.05)
    with pytest.raises(RecordingError, match=r"no chunk came out of .* planner context yet"):
        go(tmp_path / "bag", tmp_path / "r")


def test_a_policy_for_another_robot_is_refused_before_anything_is_read(tmp_path: Path, bag: Path) -> None:
    with pytest.raises(ContractMismatch, match="needs state joint j3"):
        go(bag, tmp_path / "r", policy=loaded(fake_robot(joints=4)))


def test_a_policy_that_needs_ground_truth_is_refused_since_a_recording_has_none(
    tmp_path: Path, bag: Path
) -> None:
    blind = replace(loaded(), contract=replace(loaded().contract, environment=("object.x",)))
    with pytest.raises(ContractMismatch, match=r"needs ground truth, and a recording has none.*wam eval"):
        go(bag, tmp_path / "r", policy=blind)
    assert not (tmp_path / "r").exists()


def test_the_recorded_instruction_is_used_unless_another_is_given(tmp_path: Path, bag: Path) -> None:
    assert go(bag, tmp_path / "a").summary["settings"]["instruction"] == "follow the sine"
    assert go(bag, tmp_path / "b", instruction="wave").summary["settings"]["instruction"] == "wave"
    for name, text in (("a", "follow the sine"), ("b", "wave")):
        contexts = list(read_events(tmp_path / name / "events.jsonl", "context"))
        assert {(event["instruction"], event["generation"]) for event in contexts} == {(text, 1)}


def test_receive_time_stands_in_for_stamps_of_zero_and_is_told(tmp_path: Path, bag: Path) -> None:
    write_fake_bag(tmp_path / "unstamped" / "bag", robot=ROBOT, seconds=2.0, stamps=False)
    outcome = go(tmp_path / "unstamped" / "bag", tmp_path / "a")
    assert any("60 without a stamp" in warning for warning in outcome.summary["warnings"])
    go(bag, tmp_path / "b")
    assert (tmp_path / "a" / "events.jsonl").read_bytes() == (tmp_path / "b" / "events.jsonl").read_bytes()


def test_a_delay_of_the_recorder_does_not_change_what_comes_out(tmp_path: Path, bag: Path) -> None:
    write_fake_bag(tmp_path / "late" / "bag", robot=ROBOT, seconds=2.0, latency=0.25)
    outcome = go(tmp_path / "late" / "bag", tmp_path / "a")
    go(bag, tmp_path / "b")
    assert (tmp_path / "a" / "events.jsonl").read_bytes() == (tmp_path / "b" / "events.jsonl").read_bytes()
    assert outcome.summary["stamps"]["/joint_states"]["latency_p50_ms"] == pytest.approx(250.0)


def test_receive_time_decides_when_asked_for(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=2.0, latency=0.25)
    chunks = {}
    for name, use_stamps in (("stamps", True), ("receive", False)):
        go(tmp_path / "bag", tmp_path / name, use_stamps=use_stamps)
        chunks[name] = next(read_events(tmp_path / name / "events.jsonl", "chunk"))
    assert chunks["receive"]["stamp_ns"] - chunks["stamps"]["stamp_ns"] == 250 * MS


def test_without_a_page_everything_else_is_the_same(tmp_path: Path, bag: Path) -> None:
    whole = go(bag, tmp_path / "whole")
    bare = go(bag, tmp_path / "bare", page=False)
    assert bare.summary == whole.summary
    assert bare.page == tmp_path / "bare" / "summary.json"
    files = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in (tmp_path / "bare").iterdir()} == files - {"index.html"}
    for name in ("summary.json", "events.jsonl", "timeline.parquet"):
        assert (tmp_path / "bare" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("limits", "passed"),
    [
        ({"action_l1": {"max": 100}}, True),
        ({"action_l1": {"max": 1e-9}}, False),
        ({"coverage": {"min": 0.99}, "chunks": {"min": 5, "max": 50}}, True),
        ({"coverage": {"min": 0.99}, "chunks": {"min": 500}}, False),
    ],
)
def test_the_gate_decides(tmp_path: Path, bag: Path, limits: dict[str, Any], passed: bool) -> None:
    gate = parse_gate({"thresholds": limits}, source="gate.yaml")
    outcome = go(bag, tmp_path / "r", gate=Gate.of(gate))
    assert outcome.passed is passed
    assert outcome.summary["verdict"] == ("pass" if passed else "fail")
    html = outcome.page.read_text()
    assert ("Gate passed" in html) is passed


def test_a_gate_on_an_unknown_metric_is_refused_and_writes_nothing(tmp_path: Path, bag: Path) -> None:
    gate = parse_gate({"thresholds": {"beauty": {"min": 1}}}, source="gate.yaml")
    with pytest.raises(ConfigError, match=r"metric beauty is unknown; allowed: .*action_l1"):
        go(bag, tmp_path / "r", gate=Gate.of(gate))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "keys"),
        ("limits: {}", "got .'limits'."),
        ("thresholds: {}", "thresholds"),
        ("thresholds: {a: {maximum: 1}}", "min, max or both"),
        ("thresholds: {a: {max: soon}}", r"thresholds.a.max: got 'soon'"),
        ("thresholds: {a: {min: 2, max: 1}}", "min 2 above max 1"),
        ("thresholds: {a: {max: .nan}}", "thresholds.a.max: got 'nan'; allowed: a finite number"),
        ("thresholds: {a: {min: -.inf}}", "thresholds.a.min: got '-inf'; allowed: a finite number"),
        ("thresholds: [", "cannot be read"),
    ],
)
def test_a_malformed_gate_is_refused_by_place(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "gate.yaml").write_text(text)
    with pytest.raises(ConfigError, match=match):
        read_gate(tmp_path / "gate.yaml")


class Broken(FakeExecutor):
    """Finite at first, then not."""

    calls = 0

    def act(self, routed: RoutedContext[Any], *, proprio: Any) -> Any:
        """Return a chunk, or raise."""
        self.calls += 1
        if self.calls > 4:
            raise PolicyFault("chunk holds a non-finite target for j1 in row 3")
        return super().act(routed, proprio=proprio)


def test_a_policy_fault_fails_the_run_and_stands_on_top_of_the_page(tmp_path: Path, bag: Path) -> None:
    policy = loaded()
    outcome = go(bag, tmp_path / "r", policy=replace(policy, executor=Broken(policy.contract)))
    assert not outcome.passed
    assert outcome.summary["verdict"] == "fault"
    assert "non-finite target for j1" in outcome.page.read_text()


def test_an_earlier_report_is_replaced_and_a_folder_of_the_users_is_not(tmp_path: Path, bag: Path) -> None:
    go(bag, tmp_path / "r")
    go(bag, tmp_path / "r", instruction="other words")
    assert (
        json.loads((tmp_path / "r" / "summary.json").read_text())["settings"]["instruction"] == "other words"
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        go(bag, tmp_path / "mine")


def test_a_failing_replay_leaves_the_earlier_report_as_it_was(tmp_path: Path, bag: Path) -> None:
    go(bag, tmp_path / "r")
    before = (tmp_path / "r" / "summary.json").read_bytes()
    (bag / "bag.mcap").write_bytes(b"no recording")
    with pytest.raises(RecordingError):
        go(bag, tmp_path / "r")
    assert (tmp_path / "r" / "summary.json").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "r"]


CAMERA_TOPIC = f"/{ROBOT.cameras[0].topic}"


def damage_images(bag: Path, damage: Callable[[int, npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]) -> None:
    """Write a bag anew with other bytes for its images; `damage` gets their number."""
    with Recording(bag) as recording:
        custom = dict(recording.custom)
        messages = list(recording.messages([topic.name for topic in recording.topics]))
    shutil.rmtree(bag)
    store = get_typestore(Stores.ROS2_JAZZY)
    out = RecordFile(bag, metadata=custom)
    images = 0
    for one in messages:
        if one.topic == CAMERA_TOPIC:
            one.message.data = damage(images, np.array(one.message.data))
            images += 1
        out.write(one.topic, one.msgtype, store.serialize_cdr(one.message, one.msgtype), one.receive_ns)
    out.close()


def test_damaged_images_are_left_out_and_told_with_their_seconds(tmp_path: Path, bag: Path) -> None:
    """One JPEG that was cut off ended the replay."""
    damage_images(bag, lambda i, data: data[:-40] if i in (20, 21, 40) else data)
    summary = go(bag, tmp_path / "r").summary
    (loss,) = summary["recording"]["losses"]
    reason = f"images of {CAMERA_TOPIC} are damaged"
    assert loss == {"topic": CAMERA_TOPIC, "messages": 3, "seconds": pytest.approx(0.1), "reason": reason}
    assert summary["metrics"]["lost_share"] == pytest.approx(3 / 181)
    assert summary["metrics"]["refused_messages"] == 3
    assert summary["warnings"][0] == f"{reason}: lost are 3 messages of {CAMERA_TOPIC} (0.10 s)"
    assert summary["warnings"][0] in (tmp_path / "r" / "index.html").read_text()


def test_a_gate_may_limit_what_was_lost(tmp_path: Path, bag: Path) -> None:
    damage_images(bag, lambda i, data: data[:-40] if i % 2 else data)
    gate = parse_gate({"thresholds": {"lost_share": {"max": 0.1}}}, source=tmp_path)
    outcome = go(bag, tmp_path / "r", gate=Gate.of(gate))
    assert not outcome.passed
    assert [check["value"] for check in outcome.summary["gate"]] == [pytest.approx(30 / 181)]


def test_a_camera_with_none_but_damaged_images_ends_the_replay(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    write_fake_bag(bag, robot=ROBOT, seconds=3.0)
    damage_images(bag, lambda i, data: data[:-40])
    with pytest.raises(RecordingError, match=f"the first 50 images of {CAMERA_TOPIC} in .* are damaged"):
        go(bag, tmp_path / "r")


def test_a_recording_that_was_cut_off_is_judged_as_far_as_it_goes(tmp_path: Path) -> None:
    bag = tmp_path / "in" / "bag"
    write_fake_bag(bag, robot=ROBOT, seconds=10.0)
    file = bag / "bag.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    summary = go(bag, tmp_path / "r").summary
    assert summary["recording"]["duration_s"] == pytest.approx(5.0, abs=0.6)
    lost = {loss["topic"]: loss for loss in summary["recording"]["losses"]}
    assert lost["/joint_states"]["seconds"] == pytest.approx(5.0, abs=0.6)
    assert summary["metrics"]["lost_share"] == pytest.approx(0.5, abs=0.06)
    assert str(tmp_path) not in json.dumps(summary)


def test_the_summary_is_documented(tmp_path: Path, bag: Path) -> None:
    summary = go(bag, tmp_path / "r").summary
    text = (Path(__file__).parents[3] / "docs" / "reference" / "summary.md").read_text()
    missing = [
        name for name in (*summary, *summary["metrics"], *summary["settings"]) if f"`{name}`" not in text
    ]
    assert missing == []


def test_summary_and_page_name_what_ran_each_stage(tmp_path: Path, bag: Path) -> None:
    stages = (StageBackend("denoise", "eager", "not onnxruntime: it has not been exported"),)
    outcome = go(bag, tmp_path / "r", policy=replace(loaded(), stages=stages))
    told = "eager (not onnxruntime: it has not been exported)"
    assert outcome.summary["policy"]["backends"] == {"denoise": told}
    page = outcome.page.read_text()
    assert "stage denoise" in page
    assert told in page


def test_metadata_name_the_recording_and_no_host(tmp_path: Path, bag: Path) -> None:
    content = yaml.safe_load((bag / "metadata.yaml").read_text())
    assert content["rosbag2_bagfile_information"]["custom_data"]["wam.robot"] == "fake"
    text = json.dumps(go(bag, tmp_path / "r").summary)
    assert str(tmp_path) not in text
