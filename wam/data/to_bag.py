# SPDX-License-Identifier: Apache-2.0
"""A LeRobot episode as a rosbag2 with the topics, names and types of a robot's own drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.core.observation import Rgb
from wam.data.bag.joint_names import driver_aliases
from wam.data.bag.topics import ACTION_TOPIC, EPOCH_NS, INSTRUCTION_TOPIC, JPEG_QUALITY, WARNINGS
from wam.data.bag.writing import BagWriter, Storage, new_bag
from wam.data.lerobot.episode import EpisodeReader, RecordedEpisode
from wam.data.lerobot.format import ACTION, IMAGES, STATE
from wam.data.lerobot.reader import open_dataset
from wam.robots.description import CameraTransport, RobotDescription

RANGE_SLACK = 0.25
"""Share of a joint's range by which recorded values may exceed it before their unit is questioned."""

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
        lenient: report faults that leave usable data as warnings.
        progress: called with rows done and total rows.

    Raises:
        RecordingError: data set and robot do not match, or `out` exists; no file is left behind.
    """
    dataset = open_dataset(source)
    reader = EpisodeReader(dataset, episode, lenient=lenient)
    content = reader.episode
    state_index = joint_columns(content.state_names, robot, feature=STATE, dataset=source)
    action_names, warnings = _action_names(content, robot, source, lenient)
    views = camera_views(content, robot, cameras or {}, source)
    warnings = (*warnings, *_range_warnings(content.state[:, state_index], robot))
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
        _write(bag, reader, robot, views, state_index, action_names, progress)
        messages = bag.count
        warnings = (*reader.warnings, *warnings)
        # A replay of the bag repeats them in its report.
        if warnings:
            bag.note(WARNINGS, "\n".join(warnings))
    return Converted(out, episode, len(content.stamps), messages, topics, content.instruction, warnings)


def joint_columns(
    names: tuple[str, ...], robot: RobotDescription, *, feature: str, dataset: Path
) -> npt.NDArray[np.intp]:
    """Return, for every joint of the robot, the column of the data set that holds it.

    A column may have the joint's policy-side name or, where it is unique, the driver's.

    Raises:
        RecordingError: the data set names no columns, or a joint of the robot is not among them.
    """
    if not names:
        raise RecordingError(
            f"meta/info.json of {dataset} names no columns for {feature}",
            allowed=f"the {len(robot.joints)} joint names of {robot.name}, in order",
            where=f"meta/info.json: features['{feature}'].names",
        )
    aliases = driver_aliases(robot)
    place = {aliases.get(name, name): column for column, name in enumerate(names)}
    missing = [joint.name for joint in robot.joints if joint.name not in place]
    if missing:
        raise RecordingError(
            f"{feature} of {dataset} lacks {', '.join(missing)} of robot {robot.name}",
            value=list(names),
            allowed=f"columns for all of {list(robot.joint_names)}",
            where=f"{robot.source}, or choose another --robot",
        )
    return np.array([place[joint.name] for joint in robot.joints], dtype=np.intp)


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


def _action_names(
    episode: RecordedEpisode, robot: RobotDescription, dataset: Path, lenient: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the policy-side names of the action columns (empty: nothing to write) and warnings."""
    if episode.action is None:
        return (), (f"data set {dataset} records no action: a replay can compare with measured states only",)
    aliases = driver_aliases(robot)
    names = tuple(aliases.get(name, name) for name in episode.action_names)
    if episode.action.shape[1] == episode.state.shape[1] and set(robot.joint_names) <= set(names):
        return names, ()
    error = RecordingError(
        f"{ACTION} of {dataset} does not hold the joints of robot {robot.name}",
        value=f"{episode.action.shape[1]} columns {list(episode.action_names)}",
        allowed=f"{episode.state.shape[1]} columns as in {STATE}",
        where="the data set, or pass --lenient to leave out what does not fit",
    )
    if not lenient:
        raise error
    return (names if names and set(names) & set(robot.joint_names) else ()), (str(error),)


def _range_warnings(state: npt.NDArray[np.float64], robot: RobotDescription) -> tuple[str, ...]:
    limits = robot.limits()
    slack = RANGE_SLACK * (limits.upper - limits.lower)
    outside = np.any((state < limits.lower - slack) | (state > limits.upper + slack), axis=0)
    if not outside.any():
        return ()
    worst = int(np.argmax(np.where(outside, np.abs(state).max(axis=0), -1.0)))
    return (
        f"{int(outside.sum())} joints leave their range by more than {100 * RANGE_SLACK:.0f} %, for example "
        f"{limits.joint_names[worst]} reaches {state[np.argmax(np.abs(state[:, worst])), worst]:.2f} "
        f"(allowed {limits.lower[worst]:.2f} .. {limits.upper[worst]:.2f}): is the data set in radians and metres?",
    )


def _write(
    bag: BagWriter,
    reader: EpisodeReader,
    robot: RobotDescription,
    views: Mapping[str, str],
    state_index: npt.NDArray[np.intp],
    action_names: tuple[str, ...],
    progress: Progress,
) -> None:
    """Write row after row: state, action, then images, so that the state of an image is read before it."""
    episode = reader.episode
    stamps_ns = [EPOCH_NS + round(stamp * NS_PER_S) for stamp in episode.stamps.tolist()]
    state = episode.state[:, state_index]
    images = {name: _Ahead(reader.images(key)) for key, name in views.items()}
    if episode.instruction:
        bag.text(INSTRUCTION_TOPIC, stamps_ns[0], episode.instruction)
    for row, stamp_ns in enumerate(stamps_ns):
        start = 0
        for group in robot.groups:
            part = state[row, start : start + len(group.joints)] / group.state_factors
            bag.joint_state(f"/{group.state_topic}", stamp_ns, names=group.driver_names, positions=part)
            start += len(group.joints)
        if action_names and episode.action is not None:
            bag.joint_state(ACTION_TOPIC, stamp_ns, names=action_names, positions=episode.action[row])
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
