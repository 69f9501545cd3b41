# SPDX-License-Identifier: Apache-2.0
"""What is found in a recording or a data set, as values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wam.data.bag.stamps import StampReport
from wam.data.survey.units import UnitGuess


@dataclass(frozen=True, slots=True)
class FileSize:
    """A file.

    Attributes:
        name: relative to the recording.
        size: bytes.
    """

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class ColumnSurvey:
    """One joint of a topic, or one column of a table, in its own unit.

    Attributes:
        name: as recorded; "0", "1", ... where the recording names none.
        low: smallest finite value seen; NaN for none.
        high: largest finite value seen; NaN for none.
        speed: fastest change between two samples that follow each other, per second; NaN where there are none.
        samples: values seen.
        not_finite: values among them that are NaN or infinite.
        unit: a guess; nothing takes it for granted.
    """

    name: str
    low: float
    high: float
    speed: float
    samples: int
    not_finite: int
    unit: UnitGuess


@dataclass(frozen=True, slots=True)
class CameraSurvey:
    """Images of a topic, or of a feature of a data set.

    Attributes:
        height: of the first image [px]; 0 where none could be read.
        width: of the first image [px]; 0 where none could be read.
        encoding: as the message or the file says, e.g. "rgb8", "jpeg", "h264".
        is_compressed: images or packets of a video, and no plain pixels.
        problem: why images cannot be decoded; "" where the first one was.
    """

    height: int
    width: int
    encoding: str
    is_compressed: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TopicSurvey:
    """One topic of a recording.

    Attributes:
        name: with its leading slash.
        msgtype: type as package/msg/Name.
        count: messages in the recording.
        rate: messages per second, from the median interval, or else from their number [Hz]; NaN for fewer than two.
        size: bytes of its messages, estimated from those that were read; 0 for none.
        encoding: how messages are serialised: "cdr", "ros1", "json", ...
        unreadable: why its messages cannot be read; "" where they can.
        undecoded: messages among those read that could not be decoded.
        publishers: one text for each publisher that the file tells of.
        clock: times of the messages that were read; None for none. Gaps, order and bursts count only in a survey that
            is complete.
        joints: joints of its states or commands, in the order in which they were first named.
        is_command: its messages can be taken as commands; those of sensor_msgs/JointState may be states as well.
        camera: what images it has; None for other topics.
    """

    name: str
    msgtype: str
    count: int
    rate: float
    size: int
    encoding: str
    unreadable: str = ""
    undecoded: int = 0
    publishers: tuple[str, ...] = ()
    clock: StampReport | None = None
    joints: tuple[ColumnSurvey, ...] = ()
    is_command: bool = False
    camera: CameraSurvey | None = None


@dataclass(frozen=True, slots=True)
class BagSurvey:
    """A recording.

    Attributes:
        path: as given.
        form: "rosbag2 (mcap)", "rosbag2 (sqlite3)", "ROS 1 bag" or "MCAP".
        files: storage files.
        start_ns: receive time of the first message [ns]; 0 for an empty recording.
        duration: time from first to last message [s].
        messages: in all topics.
        sampled: messages that were read.
        complete: all messages were read.
        topics: in order of name.
        custom: custom metadata.
        problems: one sentence each.
    """

    path: Path
    form: str
    files: tuple[FileSize, ...]
    start_ns: int
    duration: float
    messages: int
    sampled: int
    complete: bool
    topics: tuple[TopicSurvey, ...]
    custom: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def cameras(self) -> tuple[TopicSurvey, ...]:
        """Topics with images."""
        return tuple(topic for topic in self.topics if topic.camera is not None)

    @property
    def joints(self) -> tuple[TopicSurvey, ...]:
        """Topics with joint states or commands."""
        return tuple(topic for topic in self.topics if topic.joints)


@dataclass(frozen=True, slots=True)
class EpisodeSurvey:
    """One episode of a data set.

    Attributes:
        index: its number.
        rows: its length.
        tasks: instructions.
        missing: files that its metadata name and that are not there, relative to the data set.
    """

    index: int
    rows: int
    tasks: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureSurvey:
    """One key of a data set.

    Attributes:
        name: e.g. "observation.state".
        dtype: as info.json says.
        shape: of one row.
        columns: of keys of floating-point numbers: names, observed ranges, guessed units.
        camera: of image keys.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    columns: tuple[ColumnSurvey, ...] = ()
    camera: CameraSurvey | None = None


@dataclass(frozen=True, slots=True)
class DatasetSurvey:
    """A LeRobot data set.

    Attributes:
        path: its folder.
        version: "v2.0", "v2.1" or "v3.0".
        robot_type: as info.json says; "" for none.
        fps: rows per second [Hz].
        episodes: all that the metadata tell of.
        tasks: instructions, in order of their numbers.
        features: in the order of info.json.
        files: sizes of meta, data and videos, each with what is below it.
        sampled: episodes whose tables were read.
        sampled_rows: rows in them.
        problems: one sentence each.
    """

    path: Path
    version: str
    robot_type: str
    fps: float
    episodes: tuple[EpisodeSurvey, ...]
    tasks: tuple[str, ...]
    features: tuple[FeatureSurvey, ...]
    files: tuple[FileSize, ...]
    sampled: int
    sampled_rows: int
    problems: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of all episodes."""
        return sum(episode.rows for episode in self.episodes)


def survey_as_json(found: BagSurvey | DatasetSurvey) -> dict[str, Any]:
    """Return plain values; numbers that are not known are None. The key `kind` is "recording" or "dataset"."""
    kind = "recording" if isinstance(found, BagSurvey) else "dataset"
    plain = _plain(asdict(found))
    return {"kind": kind, **plain}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
