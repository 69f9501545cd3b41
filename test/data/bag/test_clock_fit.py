# SPDX-License-Identifier: Apache-2.0
"""A clock that starts elsewhere and runs at another speed is corrected as stated, or as its latencies show."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from robot_recordings import fake_robot_file

from wam.cli.bag_options import parse_offsets
from wam.cli.main import run
from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.errors import ConfigError, RecordingError
from wam.data.bag.clock_fit import corrections, latency_line
from wam.data.bag.clocks import ClockCorrection, ClockRequest
from wam.data.bag.reading import Recording
from wam.data.bag.stamp_warnings import stamp_warnings
from wam.data.bag.topics import ACTION_TOPIC, EPOCH_NS
from wam.data.bag.writing import Storage, new_bag
from wam.data.fakes import fake_image, fake_robot, fake_trajectory

ROBOT = fake_robot()
JOINTS, CAMERA = "/joint_states", "/cam_high/image_raw/compressed"
RATE = 10.0
AHEAD_S, FAST_PPM = 0.6, 200.0
JOINT_LATENCY_NS = 2 * NS_PER_MS


def write_bag(
    out: Path,
    *,
    seconds: float = 60.0,
    ahead: float = AHEAD_S,
    ppm: float = FAST_PPM,
    images: bool = True,
    joints: bool = True,
    reset_at: float = np.inf,
) -> list[int]:
    """Write a bag with a camera on a clock of its own; return when its images were taken [ns].

    Messages are up to 8 ms late, one in 40 images half a second; the fastest are 2 ms under way.
    """
    rng = np.random.default_rng(5)
    rows = round(seconds * RATE)
    state = fake_trajectory(rows + 1, 3, rate=RATE)
    names, policy_names = ROBOT.groups[0].driver_names, ROBOT.joint_names
    picture = np.asarray(cv2.imencode(".jpg", fake_image(0, height=48, width=64))[1])
    taken = [EPOCH_NS + round(row * NS_PER_S / RATE) for row in range(rows)]
    messages: list[tuple[int, int, int]] = []
    for row, at_ns in enumerate(taken):
        messages.append((at_ns + JOINT_LATENCY_NS + int(rng.exponential(2e6)), 0, row))
        late_ns = NS_PER_S // 2 if row % 40 == 17 else int(min(rng.exponential(3e6), 8e6))
        messages.append((at_ns + JOINT_LATENCY_NS + late_ns, 1, row))
    with new_bag(out, storage=Storage.MCAP, metadata={"wam.robot": ROBOT.name}) as bag:
        for receive_ns, kind, row in sorted(messages):
            at_ns = taken[row]
            if kind == 0 and joints:
                bag.joint_state(JOINTS, at_ns, names=names, positions=state[row], receive_ns=receive_ns)
                bag.joint_state(
                    ACTION_TOPIC, at_ns, names=policy_names, positions=state[row + 1], receive_ns=receive_ns
                )
            elif kind == 1 and images:
                since_s = (at_ns - EPOCH_NS) / NS_PER_S
                error_ns = round((ahead + since_s * ppm * 1e-6 + 0.4 * (since_s > reset_at)) * NS_PER_S)
                bag.jpeg(CAMERA, at_ns + error_ns, frame_id="", data=picture, receive_ns=receive_ns)
    return taken


def corrected(bag: Path, *texts: str) -> tuple[list[int], ClockCorrection]:
    """Return the camera's stamps, in order, with the corrections that options ask for."""
    clocks = corrections(bag, parse_offsets(list(texts)))
    with Recording(bag, clock_offsets=clocks) as recording:
        stamps = [
            m.stamp_ns for m in recording.messages([CAMERA], use_stamps=False) if m.stamp_ns is not None
        ]
    return sorted(stamps), clocks[CAMERA]


def worst_error(stamps: list[int], taken: list[int]) -> float:
    """Return the largest error of stamps [s]."""
    assert len(stamps) == len(taken)
    return float(np.abs(np.array(stamps) - np.array(taken)).max()) / NS_PER_S


def test_a_camera_clock_that_is_fast_and_ahead_is_put_on_the_clock_of_the_others(tmp_path: Path) -> None:
    """Only an offset could be corrected: what a clock had drifted by at the end was left."""
    taken = write_bag(tmp_path / "bag")
    stamps, clock = corrected(tmp_path / "bag", f"{CAMERA}=auto")
    assert clock.ppm == pytest.approx(-FAST_PPM, abs=20.0)
    assert clock.offset_ns / NS_PER_S == pytest.approx(-AHEAD_S, abs=0.002)
    assert worst_error(stamps, taken) < 0.002
    assert "fitted over 60 s" in clock.line(CAMERA)
    assert f"as late as those of {JOINTS}" in clock.line(CAMERA)
    # The offset alone leaves 12 ms at the end; offset and drift as a person states them leave nothing.
    stated, _ = corrected(tmp_path / "bag", f"{CAMERA}=-{AHEAD_S}")
    assert worst_error(stated, taken) == pytest.approx(0.012, abs=0.001)
    stated, clock = corrected(tmp_path / "bag", f"{CAMERA}=-{AHEAD_S},-{FAST_PPM}")
    assert worst_error(stated, taken) < 1e-5
    assert clock.line(CAMERA).endswith("-200.0 ppm of the time since its first one (--clock-offset)")


def test_a_clock_since_it_was_switched_on_is_fitted_as_well(tmp_path: Path) -> None:
    taken = write_bag(tmp_path / "bag", ahead=50.0 - EPOCH_NS / NS_PER_S, seconds=30.0)
    stamps, clock = corrected(tmp_path / "bag", f"{CAMERA}=auto")
    assert worst_error(stamps, taken) < 0.002
    assert clock.ppm == pytest.approx(-FAST_PPM, abs=40.0)


def test_what_the_replay_corrected_is_in_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bag(tmp_path / "bag", seconds=20.0)
    robot = fake_robot_file(tmp_path)
    arguments = [
        "--robot",
        str(robot),
        "--policy",
        "fake",
        "--gate",
        "none",
        "--report",
        str(tmp_path / "out"),
    ]
    assert run(["replay", str(tmp_path / "bag"), *arguments, "--clock-offset", f"{CAMERA}=auto"]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    used = summary["settings"]["clock_corrections"][CAMERA]
    assert used["offset_s"] == pytest.approx(-AHEAD_S, abs=0.002)
    assert used["ppm"] == pytest.approx(-FAST_PPM, abs=60.0)
    (line,) = [line for line in summary["warnings"] if "stamps were corrected" in line]
    assert f"{used['offset_s']:+.6f} s and by {used['ppm']:+.1f} ppm" in line
    assert not [line for line in summary["warnings"] if "clock differs" in line or "drifts" in line]


def test_a_drift_is_warned_of_with_the_option_that_corrects_it(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", seconds=30.0, ppm=4000.0)
    with Recording(tmp_path / "bag") as recording:
        assert list(recording.messages([CAMERA, JOINTS]))
        lines = stamp_warnings(recording.order.reports())
    assert any(f"--clock-offset {CAMERA}=auto" in line for line in lines)


def test_of_less_than_ten_seconds_only_the_offset_is_fitted_and_that_is_said(tmp_path: Path) -> None:
    taken = write_bag(tmp_path / "bag", seconds=5.0)
    stamps, clock = corrected(tmp_path / "bag", f"{CAMERA}=auto")
    assert clock.ppm == 0.0
    assert "no drift is fitted to less than 10 s" in clock.line(CAMERA)
    assert worst_error(stamps, taken) < 0.003


def test_a_topic_alone_is_put_on_the_recorders_clock_and_that_is_said(tmp_path: Path) -> None:
    taken = write_bag(tmp_path / "bag", joints=False)
    stamps, clock = corrected(tmp_path / "bag", f"{CAMERA}=auto")
    assert "as none, on the recorder's clock" in clock.line(CAMERA)
    assert worst_error(stamps, taken) == pytest.approx(JOINT_LATENCY_NS / NS_PER_S, abs=0.002)


def test_a_clock_that_was_set_is_no_drift(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", reset_at=30.0)
    with pytest.raises(RecordingError, match=r"not one that only drifts: it was set.*or --time receive"):
        corrected(tmp_path / "bag", f"{CAMERA}=auto")


def test_a_topic_without_enough_stamps_or_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", seconds=0.5)
    with pytest.raises(RecordingError, match=r"nothing can be fitted to the clock of /cam_high"):
        corrected(tmp_path / "bag", f"{CAMERA}=auto")
    with pytest.raises(RecordingError, match="has no topic /cam;"):
        corrections(tmp_path / "bag", {"/cam": ClockRequest(None)})


@pytest.mark.parametrize("text", ["auto1", "0.5,x", "1,2,3", "nan", "0,1e9"])
def test_another_form_of_the_option_is_refused_with_its_forms(text: str) -> None:
    with pytest.raises(ConfigError, match=r"allowed: TOPIC=SECONDS, TOPIC=SECONDS,PPM or TOPIC=auto"):
        parse_offsets([f"/cam={text}"])


@pytest.mark.parametrize("ppm", [-5000.0, -50.0, 0.0, 35.0, 900.0])
def test_late_messages_do_not_move_the_line(ppm: float) -> None:
    rng = np.random.default_rng(1)
    taken = EPOCH_NS + np.arange(0, 120 * NS_PER_S, NS_PER_S // 20)
    late = rng.exponential(5e6, len(taken)) + np.where(rng.random(len(taken)) < 0.1, 4e8, 0.0)
    receives = taken + late.astype(np.int64) + 3 * NS_PER_MS
    stamps = taken - (2 * NS_PER_S + ppm * 1e-6 * (taken - EPOCH_NS)).astype(np.int64)
    line = latency_line(receives, stamps)
    assert line.slope * 1e6 == pytest.approx(ppm, abs=10.0)
    assert line.latency_at(int(receives[0])) / NS_PER_MS == pytest.approx(2003.0, abs=1.5)
