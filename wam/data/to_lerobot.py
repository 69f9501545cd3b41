# SPDX-License-Identifier: Apache-2.0
"""Recordings as episodes of a LeRobot data set: even rows, with an image and a task text for every row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wam.core.errors import ConfigError
from wam.core.observation import Rgb
from wam.data.bag.binding import Role, TopicNames, bind_cameras
from wam.data.bag.clock_fit import corrections
from wam.data.bag.clocks import ClockRequest, correction_lines
from wam.data.bag.reading import Recording
from wam.data.bag.writing import new_folder
from wam.data.lerobot.format import Version
from wam.data.lerobot.resample import read_images, read_rows
from wam.data.lerobot.writer import EpisodeRows, LeRobotWriter
from wam.robots.description import RobotDescription

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BagOptions:
    """Options of a conversion.

    Attributes:
        version: format of the data set.
        fps: rows per second [Hz]; 0 uses the rate of the robot's first camera, or of its first joint group.
        cameras: names of the cameras; empty for all of the robot.
        names: topics whose names differ from the robot file.
        instruction: task text of all rows; "" uses the recorded one.
        use_stamps: False uses receive times instead of header stamps.
        clock_offsets: topic -> how its stamps are corrected.
        lenient: report faults that leave usable data as warnings.
    """

    version: Version = Version.V21
    fps: float = 0.0
    cameras: tuple[str, ...] = ()
    names: TopicNames = field(default_factory=TopicNames)
    instruction: str = ""
    use_stamps: bool = True
    clock_offsets: Mapping[str, ClockRequest] = field(default_factory=dict)
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class ConvertedBags:
    """Result of a conversion.

    Attributes:
        dataset: folder of the data set.
        fps: rows per second [Hz].
        rows: rows of each episode.
        tasks: first task text of each episode.
        action_names: joints of the action; empty where none was recorded.
        warnings: for the user.
    """

    dataset: Path
    fps: float
    rows: tuple[int, ...]
    tasks: tuple[str, ...]
    action_names: tuple[str, ...]
    warnings: tuple[str, ...]


def convert_bags(
    sources: Sequence[Path],
    out: Path,
    *,
    robot: RobotDescription,
    options: BagOptions | None = None,
    progress: Progress = lambda done, total: None,
) -> ConvertedBags:
    """Write each of the recordings `sources` as one episode of the new data set `out`.

    Args:
        sources: recordings of `robot`.
        out: folder of the data set; it must not exist.
        robot: gives topics, joint names and cameras.
        options: of the conversion.
        progress: called with images done and total images of an episode.

    Raises:
        RecordingError: a recording does not match the robot or has a gap, or `out` exists; no file is left behind.
        ConfigError: the robot has no such camera.
    """
    options = options or BagOptions()
    cameras = options.cameras or tuple(camera.name for camera in robot.cameras)
    known = [camera.name for camera in robot.cameras]
    for name in cameras:
        if name not in known:
            raise ConfigError(
                f"robot {robot.name} has no camera {name}",
                allowed=", ".join(known) or "(it has none)",
                where="--camera",
            )
    fps = options.fps or (robot.camera(cameras[0]).rate if cameras else robot.groups[0].state_rate)
    lengths: list[int] = []
    tasks: list[str] = []
    warnings: list[str] = []
    names: tuple[str, ...] = ()
    with new_folder(out, what="data set") as folder:
        writer = LeRobotWriter(folder, version=options.version, fps=fps, robot=robot, cameras=cameras)
        for source in sources:
            rows, found = _add(source, writer, robot, cameras, options, fps, progress)
            lengths.append(len(rows.times_ns))
            tasks.append(rows.texts[0])
            names = rows.action_names
            warnings += [f"{source}: {text}" for text in found]
        writer.finish()
    return ConvertedBags(out, fps, tuple(lengths), tuple(tasks), names, tuple(warnings))


def _add(
    source: Path,
    writer: LeRobotWriter,
    robot: RobotDescription,
    cameras: tuple[str, ...],
    options: BagOptions,
    fps: float,
    progress: Progress,
) -> tuple[EpisodeRows, list[str]]:
    clocks = corrections(source, options.clock_offsets, lenient=options.lenient)
    with Recording(source, lenient=options.lenient, clock_offsets=clocks) as recording:
        binding = bind_cameras(recording, robot=robot, cameras=cameras, names=options.names)
        rows, warnings = read_rows(
            recording,
            binding,
            robot=robot,
            fps=fps,
            use_stamps=options.use_stamps,
            instruction=options.instruction,
        )
        feeds = {feed.camera: feed for feed in binding.feeds.values() if feed.role is Role.CAMERA}
        total = len(rows.times_ns) * len(cameras)

        def images(number: int, camera: str) -> Iterator[Rgb]:
            stream = read_images(
                recording, feeds[camera], rows.times_ns, robot=robot, use_stamps=options.use_stamps
            )
            for row, rgb in enumerate(stream, start=1):
                yield rgb
                progress(number * len(rows.times_ns) + row, total)

        writer.add(rows, {camera: images(number, camera) for number, camera in enumerate(cameras)})
        faults = [
            text.replace("chunks are compared with the joint state measured later", "the data set has none")
            for text in binding.warnings
        ]
        return rows, [*faults, *correction_lines(clocks), *warnings, *recording.warnings]
