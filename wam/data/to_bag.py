# SPDX-License-Identifier: Apache-2.0
"""A LeRobot episode as a rosbag2 with the topics, names and types of a robot's own drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.core.observation import Rgb
from wam.data.bag.topics import ACTION_TOPIC, EPOCH_NS, INSTRUCTION_TOPIC, JPEG_QUALITY, WARNINGS
from wam.data.bag.writing import BagWriter, Storage, new_bag
from wam.data.columns import ColumnOptions, JointColumns, joint_table, range_fault
from wam.data.lerobot.episode import EpisodeReader, RecordedEpisode
from wam.data.lerobot.format import ACTION, IMAGES, STATE
from wam.data.lerobot.reader import open_dataset
from wam.robots.camera_spec import CameraTransport
from wam.robots.description import RobotDescription

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Converted:
    """Result of a conversion.

    Attributes:
        bag: folder of the bag.
        episode: number of the episode.
        rows: rows of the table.
        messages: messages in the bag.
        topics: topic -> source in the data set.
        instruction: task text.
        warnings: for the user.
    """

    bag: Path
    episode: int
    rows: int
    messages: int
    topics: Mapping[str, str]
    instruction: str
    warnings: tuple[str, ...]


def convert_lerobot(
    source: Path,
    out: Path,
    *,
    robot: RobotDescription,
    episode: int = 0,
    storage: Storage = Storage.MCAP,
    cameras: Mapping[str, str] | None = None,
    state: ColumnOptions | None = None,
    action: ColumnOptions | None = None,
    lenient: bool = False,
    progress: Progress = lambda done, total: None,
) -> Converted:
    """Write episode `episode` of the data set `source` as the bag `out`.

    Args:
        source: folder of a LeRobot data set (v2.0, v2.1, v3.0).
        out: folder of the new bag; it must not exist.
        robot: gives topics, joint names and cameras.
        episode: number of the episode.
        storage: storage plugin of the bag.
        cameras: data set camera -> robot camera, where their names differ.
        state: what is stated of the columns of the state.
        action: what is stated of the columns of the action.
        lenient: report faults that leave usable data as warnings.
        progress: called with rows done and total rows.

    Raises:
        RecordingError: data set and robot do not match, or `out` exists; no file is left behind.
        ConfigError: what is stated names a column, joint or unit that does not exist.
    """
    state, action = state or ColumnOptions(), action or ColumnOptions()
    dataset = open_dataset(source)
    reader = EpisodeReader(
        dataset, episode, lenient=lenient, state_key=state.key or STATE, action_key=action.key or ACTION
    )
    content = reader.episode
    warnings: list[str] = []
    measured = measured_joints(content, robot, source, state)
    commanded = commanded_joints(content, robot, source, action, lenient, warnings)
    for found, raw, option in (
        (measured, content.state, "--unit"),
        (commanded, content.action, "--action-unit"),
    ):
        if found is None or raw is None:
            continue
        what = f"{STATE if found is measured else ACTION} of {source}"
        fault = range_fault(found, raw, what=what, option=option)
        if fault is not None and not lenient:
            raise fault
        warnings += [str(fault)] if fault is not None else []
    views = camera_views(content, robot, cameras or {}, source)
    for key in views:
        reader.require(key)
    action_names = tuple(joint.name for joint in commanded.joints) if commanded is not None else ()
    topics = {f"/{group.state_topic}": STATE for group in robot.groups}
    topics |= {f"/{robot.camera(name).topic}": IMAGES + key for key, name in views.items()}
    if action_names:
        topics[ACTION_TOPIC] = ACTION
    if content.instruction:
        topics[INSTRUCTION_TOPIC] = "meta/tasks"
    metadata = {
        "wam.source": f"lerobot {dataset.version}",
        "wam.dataset": source.resolve().name,
        "wam.episode": str(episode),
        "wam.robot": robot.name,
        "wam.fps": f"{content.fps:g}",
        "wam.instruction": content.instruction,
        "wam.action_topic": ACTION_TOPIC if action_names else "",
    }
    with new_bag(out, storage=storage, metadata=metadata) as bag:
        _write(bag, reader, robot, views, measured, commanded, progress)
        messages = bag.count
        warnings = [*reader.warnings, *warnings]
        # A replay of the bag repeats them in its report.
        if warnings:
            bag.note(WARNINGS, "\n".join(warnings))
    return Converted(
        out, episode, len(content.stamps), messages, topics, content.instruction, tuple(warnings)
    )


def measured_joints(
    episode: RecordedEpisode, robot: RobotDescription, dataset: Path, options: ColumnOptions
) -> JointColumns:
    """Return the measured joints, all of the robot's.

    Raises:
        RecordingError: a joint of the robot is not among the columns.
    """
    what = f"{STATE} of {dataset}"
    found = joint_table(episode.state, episode.state_names, robot, options, what=what, option="--state-name")
    missing = [joint.name for joint in robot.joints if joint not in found.joints]
    if missing:
        raise RecordingError(
            f"{what} lacks {', '.join(missing)} of robot {robot.name}",
            value=list(episode.state_names),
            allowed=f"columns for all of {list(robot.joint_names)}",
            where=f"--state-name COLUMN={missing[0]}, {robot.source}, or another --robot",
        )
    return found


def camera_views(
    episode: RecordedEpisode, robot: RobotDescription, renamed: Mapping[str, str], dataset: Path
) -> dict[str, str]:
    """Return data set camera -> robot camera for every camera of the robot.

    Raises:
        RecordingError: a camera of the robot is missing, or has another size or transport.
    """
    unknown = [key for key in renamed if key not in episode.cameras]
    if unknown:
        raise RecordingError(
            f"data set {dataset} has no camera {', '.join(unknown)}",
            allowed=f"{', '.join(sorted(episode.cameras)) or '(it has none)'}",
            where="--camera",
        )
    views = {key: renamed.get(key, key) for key in episode.cameras}
    by_name = {name: key for key, name in views.items()}
    for camera in robot.cameras:
        if camera.name not in by_name:
            raise RecordingError(
                f"data set {dataset} has no camera {camera.name} for robot {robot.name}",
                value=sorted(episode.cameras),
                allowed=f"a camera called {camera.name}",
                where=f"--camera DATASET_NAME={camera.name}, or {robot.source}",
            )
        height, width = episode.cameras[by_name[camera.name]]
        if (height, width) != (camera.height, camera.width):
            raise RecordingError(
                f"camera {by_name[camera.name]} of {dataset} has another size than {camera.name} of {robot.name}",
                value=f"{width}x{height}",
                allowed=f"{camera.width}x{camera.height}",
                where=f"{robot.source}",
            )
    return {by_name[camera.name]: camera.name for camera in robot.cameras}


def commanded_joints(
    episode: RecordedEpisode,
    robot: RobotDescription,
    dataset: Path,
    options: ColumnOptions,
    lenient: bool,
    warnings: list[str],
) -> JointColumns | None:
    """Return the commanded joints, or None where there is nothing to write; adds to `warnings`.

    Columns that a person has named may be fewer than the joints; a name that fits by chance does not count.
    """
    if episode.action is None:
        warnings.append(
            f"data set {dataset} records no action: a replay can compare with measured states only"
        )
        return None
    what = f"{ACTION} of {dataset}"
    found = joint_table(
        episode.action, episode.action_names, robot, options, what=what, option="--action-name"
    )
    missing = [joint.name for joint in robot.joints if joint not in found.joints]
    if missing and options.names and found.joints:
        warnings.append(f"{what} has no {', '.join(missing)}: a replay cannot judge these joints")
        return found
    if not missing:
        return found
    error = RecordingError(
        f"{what} does not hold the joints of robot {robot.name}",
        value=f"{episode.action.shape[1]} columns {list(episode.action_names)}",
        allowed=f"columns for all of {list(robot.joint_names)}",
        where=f"--action-name COLUMN={missing[0]} for each that is called otherwise, or pass --lenient to leave the "
        "action out",
    )
    if not lenient:
        raise error
    if found.joints and len(found.joints) == episode.action.shape[1]:
        warnings.append(str(error))
        return found
    warnings.append(f"{error}; the bag has no action")
    return None


def _write(
    bag: BagWriter,
    reader: EpisodeReader,
    robot: RobotDescription,
    views: Mapping[str, str],
    measured: JointColumns,
    commanded: JointColumns | None,
    progress: Progress,
) -> None:
    """Write row after row: state, action, then images, so that the state of an image is read before it."""
    episode = reader.episode
    stamps_ns = [EPOCH_NS + round(stamp * NS_PER_S) for stamp in episode.stamps.tolist()]
    action_names = tuple(joint.name for joint in commanded.joints) if commanded is not None else ()
    images = {name: _Ahead(reader.images(key)) for key, name in views.items()}
    if episode.instruction:
        bag.text(INSTRUCTION_TOPIC, stamps_ns[0], episode.instruction)
    for row, stamp_ns in enumerate(stamps_ns):
        start = 0
        for group in robot.groups:
            part = measured.values[row, start : start + len(group.joints)] / group.state_factors
            if np.isfinite(part).all():
                bag.joint_state(f"/{group.state_topic}", stamp_ns, names=group.driver_names, positions=part)
            start += len(group.joints)
        if commanded is not None and np.isfinite(commanded.values[row]).all():
            bag.joint_state(ACTION_TOPIC, stamp_ns, names=action_names, positions=commanded.values[row])
        for name, ahead in images.items():
            rgb = ahead.at(row)
            if rgb is not None:
                _write_image(bag, robot, name, stamp_ns, rgb)
        progress(row + 1, len(stamps_ns))


class _Ahead:
    """Looks one image ahead, since with --lenient some rows may have no image."""

    def __init__(self, images: Iterator[tuple[int, Rgb]]) -> None:
        self._images = images
        self._next = next(images, None)

    def at(self, row: int) -> Rgb | None:
        """Return the image of `row`, or None; to be called for rows in order."""
        if self._next is None or self._next[0] != row:
            return None
        rgb = self._next[1]
        self._next = next(self._images, None)
        return rgb


def _write_image(bag: BagWriter, robot: RobotDescription, name: str, stamp_ns: int, rgb: Rgb) -> None:
    camera = robot.camera(name)
    if camera.transport is CameraTransport.RAW:
        bag.image(f"/{camera.topic}", stamp_ns, frame_id=camera.frame_id, rgb=rgb)
        return
    done, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RecordingError(f"image of {name} could not be encoded", value=str(rgb.shape))
    bag.jpeg(f"/{camera.topic}", stamp_ns, frame_id=camera.frame_id, data=data)
