# SPDX-License-Identifier: Apache-2.0
"""Bundles, bags and a data set of an earlier version are read as they were then.

The fault guarded against: a module is moved or a format is touched, every test that writes and reads in one run still
passes, and a bundle or a bag that somebody made with an earlier version no longer loads, or loads as something else.
The files in test/fixtures/older are never made again; see the README there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.core.policy import LoadedPolicy
from wam.data.bag.binding import Role, bind_cameras
from wam.data.bag.reading import Recording
from wam.data.fakes import CAMERA, fake_robot
from wam.data.lerobot.episode import EpisodeReader
from wam.data.lerobot.reader import open_dataset
from wam.devices.loader import load_robot
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.session import replay
from wam.models.robot_layout import RobotLayout
from wam.policies.bundles import load_policy, open_policy
from wam.runtime.ingest.ingest import StreamIngest
from wam.runtime.policy import PolicyRequest, load_fake

OLDER = Path(__file__).resolve().parents[1] / "fixtures" / "older"
EXPECTED: Mapping[str, Any] = json.loads((OLDER / "expected.json").read_text(encoding="utf-8"))
ROBOTS = {"aha_wam": "piper", "dust": "franka", "ud_vla": "ur5e_inspire"}
BAGS = ("bag_mcap", "bag_sqlite3")
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
ROW_TOLERANCE = 1e-4
"""Of a policy's rows [rad or m]: sums of floats differ between processors."""
PIXEL_TOLERANCE = 0.05
"""Of a mean over an image, 0 to 255: decoders round differently."""
SUMMARY = (
    "contexts", "chunks", "scored_chunks", "executor_refusals", "policy_faults", "refused_messages", "action_l1",
    "executed_l1", "commanded_l1", "hold_l1", "coverage", "context_age_max_s", "phase_offset_max_rows", "safety_ok",
    "safety_refused", "safety_hold_share",
)  # fmt: skip
"""Metrics of the replay that are compared."""


def observe(policy: LoadedPolicy, *, row: int, seed: int) -> Observation:
    """Return what the policy sees `row` rows after the start; of `seed`, the contract's joints and cameras alone."""
    contract = policy.contract
    stamp_ns = START_NS + row * contract.control_period_ns
    rng = np.random.default_rng(seed)
    frames = {
        name: CameraFrame(name, stamp_ns, rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        for name in contract.camera_names
    }
    count = len(contract.state_joints)
    state = RobotState(stamp_ns, contract.state_joints, np.linspace(0.0, 0.1, count), np.zeros(count))
    return Observation(stamp_ns, frames, state)


def chunk_of(bundle: Path) -> dict[str, Any]:
    """Return one chunk of the policy in `bundle`: planned at the start, routed and denoised two rows later."""
    policy = load_policy(bundle, seed=0, threads=1)
    assert policy.planner is not None
    assert policy.executor is not None
    task = Instruction("put the cup on the plate")
    context = policy.planner.plan(observe(policy, row=0, seed=0), instruction=task)
    later = observe(policy, row=2, seed=1)
    chunk = policy.executor.act(policy.executor.route(later, context=context), proprio=later.state)
    return {
        "joints": list(chunk.joint_names),
        "phase_offset_rows": chunk.phase_offset_rows,
        "rows": np.round(chunk.rows, 6).tolist(),
    }


def facts_of_bundle(bundle: Path) -> dict[str, Any]:
    """Return what the manifest says, and the hash that nodes compare."""
    opened = open_policy(bundle)
    return {
        "kind": opened.manifest.kind,
        "contract_hash": opened.contract.contract_hash,
        "cameras": list(opened.contract.camera_names),
        "control_period_ns": opened.contract.control_period_ns,
        "chunk_rows": opened.contract.chunk_rows,
        "horizon_rows": opened.contract.horizon_rows,
    }


def content_of_bag(bag: Path) -> dict[str, Any]:
    """Return figures of a bag of the fake robot, read as a replay reads it."""
    robot = fake_robot()
    ingest = StreamIngest(robot, cameras=(CAMERA,))
    counts: dict[str, int] = {}
    stamps: list[int] = []
    joints = 0.0
    images: list[float] = []
    with Recording(bag) as recording:
        feeds = bind_cameras(recording, robot=robot, cameras=(CAMERA,)).feeds
        for message in recording.messages([topic.name for topic in recording.topics]):
            counts[message.topic] = counts.get(message.topic, 0) + 1
            stamps.append(message.stamp_ns or message.receive_ns)
            feed = feeds[message.topic]
            if feed.role is Role.JOINTS:
                ingest.put_joint_state(feed.streams[0], message.message)
                joints += float(ingest.robot_state(now_ns=stamps[-1]).positions.sum())
            elif feed.role is Role.CAMERA:
                ingest.put_image(feed.camera, message.message)
                if not images:
                    seen = ingest.assemble(now_ns=stamps[-1])
                    images.append(float(seen.frames[CAMERA].rgb.mean()))
        warnings, custom = list(recording.warnings), dict(recording.custom)
    return {
        "counts": counts,
        "first_ns": min(stamps),
        "last_ns": max(stamps),
        "joint_sum": round(joints, 6),
        "first_image_mean": round(images[0], 3),
        "roles": {topic: feed.role.value for topic, feed in sorted(feeds.items())},
        "refused": sum(stream.refused for stream in ingest.status()),
        "metadata": custom,
        "warnings": warnings,
    }


def replay_of_bag(bag: Path, report: Path) -> dict[str, float]:
    """Return figures of an offline replay with the fake policy and fixed latencies."""
    robot = fake_robot()
    policy = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=robot)
    settings = ReplaySettings(planner_latency_ns=100 * MS, executor_latency_ns=50 * MS, planner_period_ns=0)
    options = ReplayOptions(bag=bag, policy_name="fake", settings=settings)
    metrics = replay(options, robot=robot, policy=policy, report=report).summary["metrics"]
    return {name: float(metrics[name]) for name in SUMMARY}


def content_for_replay(root: Path) -> dict[str, Any]:
    """Return figures of episode 0 by the reader of the replay."""
    dataset = open_dataset(root)
    reader = EpisodeReader(dataset, 0)
    episode = reader.episode
    images = [rgb for _, rgb in reader.images(CAMERA)]
    assert episode.action is not None
    return {
        "version": dataset.version,
        "rows": len(episode.stamps),
        "images": len(images),
        "fps": episode.fps,
        "instruction": episode.instruction,
        "state_names": list(episode.state_names),
        "action_names": list(episode.action_names),
        "state_mean": np.round(episode.state.mean(axis=0), 6).tolist(),
        "action_mean": np.round(episode.action.mean(axis=0), 6).tolist(),
        "first_image_mean": round(float(images[0].mean()), 3),
    }


def content_for_training(root: Path) -> dict[str, Any]:
    """Return figures of episode 0 by the reader of the training."""
    dataset = open_dataset(root)
    (episode,) = dataset.present()
    state = dataset.column(episode, "observation.state")
    frames = dataset.frames(episode, dataset.cameras[0], range(episode.length))
    return {
        "version": dataset.version,
        "rows": episode.length,
        "images": len(frames),
        "fps": dataset.fps,
        "cameras": list(dataset.cameras),
        "tasks": list(episode.tasks),
        "state_mean": np.round(state.mean(axis=0, dtype=np.float64), 6).tolist(),
        "first_image_mean": round(float(frames[0].mean()), 3),
    }


def require_same(found: Mapping[str, Any], expected: Mapping[str, Any], *, tolerance: float = 1e-5) -> None:
    """Compare key by key: numbers in lists and floats within a tolerance, all else exactly."""
    assert set(found) == set(expected)
    for key, value in expected.items():
        if key == "first_image_mean":
            assert found[key] == pytest.approx(value, abs=PIXEL_TOLERANCE), key
        elif isinstance(value, float) or (
            isinstance(value, list) and value and not isinstance(value[0], str)
        ):
            np.testing.assert_allclose(found[key], value, rtol=0.0, atol=tolerance, err_msg=key)
        else:
            assert found[key] == value, key


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Copy of the files: a reader may write beside what it reads."""
    return Path(shutil.copytree(OLDER, tmp_path / "older"))


@pytest.mark.parametrize("kind", ROBOTS)
def test_an_older_bundle_keeps_its_contract_hash(older: Path, kind: str) -> None:
    """Nodes of two versions refuse each other's contexts when the hash of one bundle differs between them."""
    expected = EXPECTED["bundles"][kind]["facts"]
    assert facts_of_bundle(older / "bundles" / kind) == expected
    assert (
        load_policy(older / "bundles" / kind, threads=1).contract.contract_hash == expected["contract_hash"]
    )


@pytest.mark.parametrize("kind", ROBOTS)
def test_an_older_bundle_gives_the_chunk_it_gave(older: Path, kind: str) -> None:
    """A tensor that is read under another name, or a default that changed, moves the robot differently."""
    found = chunk_of(older / "bundles" / kind)
    require_same(found, EXPECTED["bundles"][kind]["chunk"], tolerance=ROW_TOLERANCE)


@pytest.mark.parametrize(("kind", "robot"), ROBOTS.items())
def test_an_older_bundle_still_fits_its_robot_file(older: Path, kind: str, robot: str) -> None:
    """A joint or camera that is renamed in a robot file shuts out every bundle that was made for the robot."""
    layout = RobotLayout.of(load_robot(robot))
    contract = open_policy(older / "bundles" / kind).contract
    assert contract.action_joints == layout.action_joints
    assert contract.state_joints == layout.state_joints
    assert contract.camera_names == layout.cameras


@pytest.mark.parametrize("name", BAGS)
def test_an_older_bag_has_the_messages_it_had(older: Path, name: str) -> None:
    require_same(content_of_bag(older / name), EXPECTED["bags"][name])


@pytest.mark.parametrize("name", BAGS)
def test_an_older_bag_replays_as_it_did(older: Path, tmp_path: Path, name: str) -> None:
    require_same(replay_of_bag(older / name, tmp_path / "report"), EXPECTED["replay"])


def test_an_older_data_set_is_read_by_the_replay_as_it_was(older: Path) -> None:
    require_same(content_for_replay(older / "lerobot"), EXPECTED["lerobot"]["replay"])


def test_an_older_data_set_is_read_by_the_training_as_it_was(older: Path) -> None:
    require_same(content_for_training(older / "lerobot"), EXPECTED["lerobot"]["training"])
