# SPDX-License-Identifier: Apache-2.0
"""Experts' episodes as data: whole or not at all, the same after an interruption, read by training and replay."""

from __future__ import annotations

import fcntl
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from wam.core.errors import ConfigError, RecordingError
from wam.core.observation import Rgb
from wam.data.bag.reading import Recording
from wam.data.lerobot.episode import EpisodeReader
from wam.data.lerobot.format import Version
from wam.data.lerobot.reader import open_dataset
from wam.data.lerobot.writer import OpenEpisode
from wam.robots.description import RobotDescription
from wam.sim.recording.plan import Format, Played, RecordPlan
from wam.sim.recording.record import ExpertRecording, record, work_folder
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.world import TaskWorld

pytestmark = [pytest.mark.sim, pytest.mark.camera]


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, plan: RecordPlan, small_franka: RobotDescription
) -> ExpertRecording:
    """Two episodes, recorded in one go."""
    return record(plan, tmp_path_factory.mktemp("whole") / "data", episodes=2, robot=small_franka)


@pytest.fixture(scope="module")
def bags(
    tmp_path_factory: pytest.TempPathFactory, plan: RecordPlan, small_franka: RobotDescription
) -> ExpertRecording:
    """One episode as a bag."""
    out = tmp_path_factory.mktemp("bags") / "bags"
    return record(replace(plan, format=Format.BAG), out, episodes=1, robot=small_franka)


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def interrupt(played: Played, count: int) -> None:
    raise Interrupted


def content(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """Let the kernel refuse files of more than `free` bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_recording_that_was_interrupted_goes_on_and_equals_one_in_one_go(
    tmp_path: Path, plan: RecordPlan, small_franka: RobotDescription, whole: ExpertRecording
) -> None:
    out = tmp_path / "data"
    with pytest.raises(Interrupted):
        record(plan, out, episodes=2, robot=small_franka, done=interrupt)
    assert not out.exists()
    part = open_dataset(work_folder(out) / "seed_000003")
    assert [episode.length for episode in part.episodes] == [whole.episodes[0].rows]
    # What a process that was killed in mid-write leaves behind is not taken for an episode.
    torn = work_folder(out) / "seed_000004" / "meta"
    torn.mkdir(parents=True)
    again: list[int] = []
    result = record(
        plan, out, episodes=2, processes=2, robot=small_franka, done=lambda one, _: again.append(one.seed)
    )
    assert again == [4]
    assert result.episodes == whole.episodes
    assert content(out) == content(whole.out)
    assert not work_folder(out).exists()


def test_statistics_equal_those_computed_from_the_rows(whole: ExpertRecording) -> None:
    dataset = open_dataset(whole.out)
    stats = json.loads((whole.out / "meta" / "stats.json").read_text(encoding="utf-8"))
    for name in ("observation.state", "action", "timestamp", "index", "task_index"):
        table = np.concatenate([dataset.column(episode, name) for episode in dataset.episodes]).astype(
            np.float64
        )
        assert stats[name]["count"] == [len(table)]
        for kind, value in (
            ("min", table.min(0)),
            ("max", table.max(0)),
            ("mean", table.mean(0)),
            ("std", table.std(0)),
        ):
            np.testing.assert_allclose(stats[name][kind], value, rtol=1e-9, atol=1e-12)
    for camera in dataset.cameras:
        pixels = np.concatenate([dataset.frames(one, camera, range(one.length)) for one in dataset.episodes])
        shown = np.array(stats[camera]["mean"]).ravel()
        np.testing.assert_allclose(shown, pixels.mean((0, 1, 2)) / 255.0, atol=0.02)


def test_a_data_set_tells_seed_variant_and_instruction_of_every_episode(whole: ExpertRecording) -> None:
    rows = pq.read_table(whole.out / "meta" / "episodes", partitioning=None).to_pylist()
    assert [row["wam/seed"] for row in rows] == [one.seed for one in whole.episodes] == [3, 4]
    assert [row["tasks"] for row in rows] == [[one.instruction] for one in whole.episodes]
    assert [row["wam/variant"] for row in rows] == [one.variant for one in whole.episodes]
    assert all(row["wam/success"] and row["wam/score"] == 3 for row in rows)
    assert json.loads((whole.out / "meta" / "wam.json").read_text(encoding="utf-8"))["setting"] == "seen"


def test_the_action_of_a_row_is_the_command_in_force_then(
    whole: ExpertRecording, bags: ExpertRecording
) -> None:
    """A chunk's row 0 is due at the stamp of its observation: data one row ahead would teach to be early."""
    content = EpisodeReader(open_dataset(whole.out), 0).episode
    assert content.action is not None
    with Recording(bags.out / "seed_000003") as recording:
        commands = [
            (message.time_ns, np.array(message.message.position))
            for message in recording.messages(["/action"])
        ]
    start_ns = commands[0][0]
    times = np.array([(time_ns - start_ns) * 1e-9 for time_ns, _ in commands])
    table = np.stack([positions for _, positions in commands])
    for row, stamp in enumerate(content.stamps[:-1]):
        near = [np.interp(stamp, times, column) for column in table.T]
        np.testing.assert_allclose(content.action[row], near, atol=2e-3)


def test_a_bag_has_the_topics_and_units_of_the_drivers(
    bags: ExpertRecording, small_franka: RobotDescription
) -> None:
    with Recording(bags.out / "seed_000003") as recording:
        types = {topic.name: topic.msgtype for topic in recording.topics}
        custom = dict(recording.custom)
        arm = next(iter(recording.messages(["/franka/joint_states"]))).message
        gripper = [message.message for message in recording.messages(["/franka_gripper/joint_states"])]
        sides = list(recording.messages(["/cameras/side/color/image_raw"]))
    assert types == {
        "/franka/joint_states": "sensor_msgs/msg/JointState",
        "/franka_gripper/joint_states": "sensor_msgs/msg/JointState",
        "/cameras/side/color/image_raw": "sensor_msgs/msg/Image",
        "/cameras/wrist/color/image_raw": "sensor_msgs/msg/Image",
        "/action": "sensor_msgs/msg/JointState",
        "/instruction": "std_msgs/msg/String",
    }
    assert tuple(arm.name) == small_franka.group("arm").driver_names
    assert len(arm.position) == len(arm.velocity) == len(arm.effort) == 7
    # Half the opening: each finger of a Franka Hand goes from 0 to 0.04 m.
    assert 0.03 < max(message.position[0] for message in gripper) < 0.041
    # 15 Hz, as the gripper's node publishes, however often it was commanded.
    assert len(gripper) == pytest.approx(15 * bags.episodes[0].time, abs=2)
    assert len(sides) == bags.episodes[0].rows
    assert (sides[0].message.height, sides[0].message.width, sides[0].message.encoding) == (48, 64, "rgb8")
    assert (custom["wam.seed"], custom["wam.robot"], custom["wam.policy"]) == ("3", "franka", "expert")
    assert custom["wam.instruction"] == bags.episodes[0].instruction
    assert json.loads(custom["wam.contract"])["joints"][-1] == {"name": "fr3_finger_joint1", "unit": "m"}


def test_a_full_disk_leaves_the_finished_episodes_readable(
    tmp_path: Path, plan: RecordPlan, small_franka: RobotDescription
) -> None:
    joints = replace(plan, cameras=(), format=Format.BAG, time_limit=1.0, keep_failures=True)
    out = tmp_path / "bags"
    with full_disk(10_000_000), pytest.raises(Interrupted):
        record(joints, out, episodes=2, robot=small_franka, done=interrupt)
    with full_disk(20_000), pytest.raises(RecordingError, match="File too large"):
        record(joints, out, episodes=2, robot=small_franka)
    with Recording(work_folder(out) / "seed_000003") as recording:
        assert recording.custom["wam.seed"] == "3"
    assert not (work_folder(out) / "seed_000004").exists()
    assert len(record(joints, out, episodes=2, robot=small_franka).episodes) == 2


def test_an_image_that_cannot_be_written_is_no_failure_of_the_expert(
    tmp_path: Path, plan: RecordPlan, small_franka: RobotDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk counted as an episode that the expert had lost, and the next seed began."""

    def refuse(self: OpenEpisode, camera: str, rgb: Rgb) -> None:
        raise RecordingError("the disk is full")

    monkeypatch.setattr(OpenEpisode, "add_image", refuse)
    with pytest.raises(RecordingError, match=r"^the disk is full"):
        record(replace(plan, time_limit=1.0), tmp_path / "data", episodes=1, robot=small_franka)


def test_failed_episodes_are_left_out_unless_they_are_wanted(
    tmp_path: Path, plan: RecordPlan, small_franka: RobotDescription
) -> None:
    hopeless = replace(plan, cameras=(), time_limit=0.3, version=Version.V21)
    with pytest.raises(RecordingError, match=r"fails too often: 12 of 12 episodes: got 'seed \d+: 0 of 3"):
        record(hopeless, tmp_path / "none", episodes=1, robot=small_franka)
    wanted = replace(hopeless, keep_failures=True)
    record(wanted, tmp_path / "all", episodes=2, robot=small_franka)
    lines = (tmp_path / "all" / "meta" / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["wam/success"] for line in lines] == [False, False]


def test_a_recording_with_other_options_is_not_continued(
    tmp_path: Path, plan: RecordPlan, small_franka: RobotDescription
) -> None:
    joints = replace(plan, cameras=(), time_limit=0.3, keep_failures=True)
    out = tmp_path / "data"
    with pytest.raises(Interrupted):
        record(joints, out, episodes=2, robot=small_franka, done=interrupt)
    with pytest.raises(ConfigError, match=r"other options: got 'fps 5\.0'; allowed: fps 10\.0"):
        record(replace(joints, fps=10.0), out, episodes=2, robot=small_franka)
    with (work_folder(out) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RecordingError, match="another process records to"):
            record(joints, out, episodes=2, robot=small_franka)
    out.mkdir()
    with pytest.raises(RecordingError, match="exists already and is not overwritten"):
        record(joints, out, episodes=2, robot=small_franka)


def test_ground_truth_is_recorded_without_images_where_it_is_asked_for(
    tmp_path: Path, plan: RecordPlan, small_franka: RobotDescription
) -> None:
    bare = replace(plan, task="franka_box_to_bowl_near", cameras=(), truth=True)
    out = record(bare, tmp_path / "data", episodes=1, robot=small_franka).out
    episode = EpisodeReader(open_dataset(out), 0).episode
    world = TaskWorld(find_task(bare.task), robot=small_franka)
    world.reset(bare.seed)
    begin = world.truth(0)
    assert episode.environment_names == begin.names
    assert episode.environment is not None
    np.testing.assert_allclose(episode.environment[0], begin.values, atol=1e-6)
    lifted = episode.environment[:, begin.names.index("object.z")]
    assert lifted.max() > lifted[0] + 0.1
    assert not episode.cameras
    stats = json.loads((out / "meta" / "stats.json").read_text(encoding="utf-8"))
    assert len(stats["observation.environment_state"]["mean"]) == len(begin.names)


@pytest.mark.slow
def test_a_policy_trains_on_a_recorded_data_set(tmp_path: Path, whole: ExpertRecording) -> None:
    from wam.core.contract import TrainedOn
    from wam.models.bundle import open_bundle
    from wam.policies.dust.training.config import DustTrainConfig
    from wam.policies.dust.training.recipe import RECIPE
    from wam.training.config_reading import parse_config
    from wam.training.runner import run_recipe

    eagle = {"image_size": 28, "patch": 7, "vision_layers": 1, "language_layers": 1}
    config = parse_config(
        DustTrainConfig,
        {
            "model": {"preset": "tiny", "overrides": {"mm_layers": 2, "tail_layers": 2, "eagle": eagle}},
            "data": {
                "root": str(whole.out),
                "cameras": ["observation.images.side"],
                "feature_cache": str(tmp_path / "features"),
            },
            "optim": {"steps": 2, "batch_size": 2, "precision": "float32"},
            "run": {"out": str(tmp_path / "run"), "device": "cpu", "threads": 1, "tensorboard": False},
        },
    )
    result = run_recipe(RECIPE, config)
    assert result.finished
    assert result.bundle is not None
    bundle = open_bundle(result.bundle)
    assert bundle.contract.task == "franka_box_to_bowl"
    seeds = (whole.episodes[0].seed, whole.episodes[-1].seed)
    assert bundle.contract.trained_on == TrainedOn(whole.out.name, 2, seeds, "full")
    assert bundle.manifest.action_joints[-1] == "fr3_finger_joint1"
    # Training weighs episodes alike, data sets weigh rows alike: extremes are the same, means are those of episodes.
    written = json.loads((whole.out / "meta" / "stats.json").read_text(encoding="utf-8"))["observation.state"]
    rows = pq.read_table(whole.out / "meta" / "episodes", partitioning=None).to_pylist()
    means = np.mean([row["stats/observation.state/mean"] for row in rows], axis=0)
    used = bundle.stats.state.values
    for mine, theirs in ((used["mean"], means), (used["min"], written["min"]), (used["max"], written["max"])):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
