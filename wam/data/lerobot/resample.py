# SPDX-License-Identifier: Apache-2.0
"""A recording on an even grid of times: rows of joint states, actions and task texts, and the image of every row."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.core.observation import Rgb
from wam.data.bag.binding import Binding, Feed, Role
from wam.data.bag.commands import CommandReader, CommandSample
from wam.data.bag.joint_names import RecordedJoints
from wam.data.bag.joint_samples import JointSamples
from wam.data.bag.publisher_watch import PublisherWatch
from wam.data.bag.reading import Recording
from wam.data.bag.stamps import BagMessage
from wam.data.lerobot.writer import EpisodeRows
from wam.robots.description import RobotDescription
from wam.robots.images import decode_image

BLOCK_ROWS = 64
GAP_PERIODS = 3
END_SLACK = 0.25
"""Share of a period by which the last row may be later than the last sample, since stamps are rounded."""

Stamps = npt.NDArray[np.int64]
Table = npt.NDArray[np.float64]


@dataclass(slots=True)
class _Grid:
    """Rows of one table, filled as its samples arrive.

    Attributes:
        reference: the samples.
        what: the table holds, for errors.
        lenient: hold the last value over a gap.
        from_start: every column needs a value from the first row on; else one that begins later is left to the caller.
        blocks: the rows, NaN where there is no value.
        done: rows filled.
        held: rows in which a value was held.
        last: the last row.
    """

    reference: JointSamples
    what: str
    lenient: bool
    from_start: bool
    blocks: list[Table] = field(default_factory=list)
    done: int = 0
    held: int = 0
    last: Table | None = None

    def fill(self, times_ns: Stamps) -> None:
        """Append rows for `times_ns`; a gap is an error, or bridged by the last value where lenient."""
        table = self.reference.at(times_ns)
        # Columns that no topic has values for stay empty; in the others an empty cell is a gap.
        known = self.reference.columns
        for row in np.flatnonzero(np.isnan(table[:, known]).any(axis=1)):
            before = table[row - 1] if row else self.last
            nothing = before is None and self.from_start
            if nothing or not self.lenient:
                raise RecordingError(
                    f"{self.what} has a gap in the recording",
                    value=f"no sample near {int(times_ns[row]) / NS_PER_S:.3f} s",
                    allowed="samples closer together than max_age in the robot file",
                    where="the recording"
                    if nothing
                    else "the recording, or pass --lenient to hold the last value",
                )
            if before is None:
                before = np.full_like(table[row], np.nan)
            missing = np.isnan(table[row])
            table[row] = np.where(missing, before, table[row])
            self.held += bool(np.isfinite(before[missing]).any())
        self.last = table[-1]
        self.done += len(table)
        self.blocks.append(table)
        self.reference.forget(int(times_ns[-1]))


class _Reader:
    """Fills the rows in one pass over a recording."""

    def __init__(
        self, recording: Recording, binding: Binding, robot: RobotDescription, fps: float, use_stamps: bool
    ) -> None:
        self._recording, self._binding, self._robot = recording, binding, robot
        self._fps, self._use_stamps = fps, use_stamps
        period_ns = round(NS_PER_S / fps)
        gap_ns = max(GAP_PERIODS * period_ns, *(group.state_max_age_ns for group in robot.groups))
        lenient = recording.lenient
        self.state = _Grid(
            JointSamples(robot.joint_names, max_gap_ns=gap_ns), "the joint state", lenient, from_start=True
        )
        self.action = _Grid(
            JointSamples(robot.joint_names, max_gap_ns=gap_ns), "the action", lenient, from_start=False
        )
        feeds = binding.feeds.values()
        self._commands = {
            feed.topic: CommandReader(feed.msgtype, step_ns=period_ns, use_stamps=use_stamps)
            for feed in feeds
            if feed.role in (Role.JOINTS, Role.ACTION)
        }
        self._silent = {feed.topic for feed in feeds if feed.role is not Role.INSTRUCTION}
        self._unseen = set(range(len(robot.joint_names)))
        # Of every camera, and of every joint of states and actions: messages may hold some of the joints.
        self._first: dict[tuple[str, int], int] = {}
        self._last: dict[tuple[str, int], int] = {}
        self._start_ns: int | None = None
        self._joints = RecordedJoints(robot, wanted=robot.joint_names)
        self.watch = PublisherWatch(robot)
        self.texts: list[tuple[int, str]] = []

    @property
    def has_action(self) -> bool:
        """Whether commands were recorded."""
        return self._binding.first(Role.ACTION) is not None

    def times(self, first: int, count: int) -> Stamps:
        """Return the times of `count` rows from number `first` on [ns]."""
        if self._start_ns is None:
            self._start_ns = max(self._first.values())
        grid = self._start_ns + np.round(np.arange(first, first + count) * (NS_PER_S / self._fps)).astype(
            np.int64
        )
        return np.asarray(grid, dtype=np.int64)

    def run(self) -> Stamps:
        """Read to the end and return the grid."""
        now_ns = 0
        messages = self._recording.messages(list(self._binding.feeds), use_stamps=self._use_stamps)
        for message in messages:
            if message.time_ns < now_ns:
                raise RecordingError(
                    f"the clock of {self._recording.path} was set back at {message.topic}",
                    value=f"{(now_ns - message.time_ns) / NS_PER_S:.3f} s",
                    allowed="times that increase",
                    where="the recording (split it in two)",
                )
            now_ns = message.time_ns
            self._take(message, self._binding.feeds[message.topic])
            if not self._silent and not self._unseen:
                self._fill(min(self._known(self.state), self._known(self.action)))
        for topic, reader in self._commands.items():
            for sample in reader.rest(now_ns):
                self._add(sample, self._binding.feeds[topic])
        if self._silent:
            raise RecordingError(
                f"recording {self._recording.path} has no usable message of {', '.join(sorted(self._silent))}",
                where="the recording",
            )
        if self._unseen:
            raise RecordingError(
                f"recording {self._recording.path} has no state of some joints of robot {self._robot.name}",
                value=[self._robot.joint_names[i] for i in sorted(self._unseen)],
                allowed="all of its joints, in one message or in several",
                where="another --robot, or the recording",
            )
        start_ns, end_ns = int(self.times(0, 1)[0]), min(self._last.values())
        rows = int((end_ns - start_ns) * self._fps / NS_PER_S + END_SLACK) + 1 if end_ns >= start_ns else 0
        if rows < 2:
            raise RecordingError(
                f"the topics of {self._recording.path} have fewer than two rows in common",
                value=f"{(end_ns - start_ns) / NS_PER_S:.3f} s",
                allowed=f"at least {1 / self._fps:.3f} s",
                where="the recording, or --fps",
            )
        self._fill(end_ns, rows=rows)
        return self.times(0, rows)

    def _known(self, grid: _Grid) -> int:
        if grid is self.action and not self.has_action:
            return int(np.iinfo(np.int64).max)
        return grid.reference.complete_ns or 0

    def _take(self, message: BagMessage, feed: Feed) -> None:
        if message.msgtype != feed.msgtype:
            return
        if feed.role is Role.INSTRUCTION:
            text = str(message.message.data).strip()
            if text:
                self.texts.append((message.time_ns, text))
        elif feed.role is Role.CAMERA:
            self._note(feed, 0, message.time_ns)
        else:
            for sample in self._commands[feed.topic].take(message):
                self._add(sample, feed)

    def _note(self, feed: Feed, joint: int, time_ns: int) -> None:
        key = (feed.topic if feed.role is Role.CAMERA else feed.role.value, joint)
        self._first.setdefault(key, time_ns)
        self._last[key] = time_ns
        self._silent.discard(feed.topic)

    def _add(self, sample: CommandSample, feed: Feed) -> None:
        index, positions = self._joints.read(sample, feed)
        if sample.names and len(sample.names) != len(sample.positions) and not self._recording.lenient:
            raise RecordingError(
                f"a message of {feed.topic} of {self._recording.path} is damaged",
                value=f"names {list(sample.names)}, {len(sample.positions)} positions",
                allowed="one position per name",
                where="the recording, or pass --lenient to leave such messages out",
            )
        if not len(index):
            return
        self.watch.take(sample, feed)
        grid = self.state if feed.role is Role.JOINTS else self.action
        for joint in index.tolist():
            self._note(feed, joint, sample.time_ns)
            if grid is self.state:
                self._unseen.discard(joint)
        grid.reference.add(feed.topic, sample.time_ns, index, positions)

    def _fill(self, until_ns: int, *, rows: int | None = None) -> None:
        """Fill all blocks that end before `until_ns`; with `rows`, everything up to that row."""
        grids = (self.state, self.action) if self.has_action else (self.state,)
        for grid in grids:
            while rows is None or grid.done < rows:
                count = BLOCK_ROWS if rows is None else min(BLOCK_ROWS, rows - grid.done)
                times = self.times(grid.done, count)
                if rows is None and times[-1] > until_ns:
                    break
                grid.fill(np.minimum(times, until_ns))


def read_rows(
    recording: Recording,
    binding: Binding,
    *,
    robot: RobotDescription,
    fps: float,
    use_stamps: bool = True,
    instruction: str = "",
) -> tuple[EpisodeRows, tuple[str, ...]]:
    """Read joint states, actions and task texts on a grid of `fps` [Hz]; only the rows are kept in memory.

    The grid spans the time in which every topic has messages. Values between samples are linear.

    Args:
        recording: open recording.
        binding: its topics; of the cameras, only the times are read.
        robot: whose recording it is.
        fps: rows per second [Hz].
        use_stamps: False uses receive times instead of header stamps.
        instruction: task text of all rows; "" uses the recorded one.

    Returns:
        The rows, and warnings for the user.

    Raises:
        RecordingError: the recording has a gap (unless lenient), a clock reset, no task text, or too few rows.
    """
    reader = _Reader(recording, binding, robot, fps, use_stamps)
    times = reader.run()
    warnings = [
        f"{grid.what} was held over a gap in {grid.held} rows"
        for grid in (reader.state, reader.action)
        if grid.held
    ]
    for line in reader.watch.warnings():
        if not recording.lenient:
            raise RecordingError(
                f"recording {recording.path}: {line}",
                allowed="one publisher of each joint: the mixture is no training data",
                where="the recording, --action-topic, or pass --lenient to write it all the same",
            )
        warnings.append(line)
    action, names = np.empty((len(times), 0)), ()
    if reader.has_action:
        columns = reader.action.reference.columns
        action = np.concatenate(reader.action.blocks)[:, columns]
        late = np.isnan(action).any(axis=0)
        if late.any():
            warnings.append(_late_commands([robot.joint_names[i] for i in columns[late]], recording))
            columns, action = columns[~late], action[:, ~late]
        names = tuple(robot.joint_names[i] for i in columns)
    texts = _texts_of(times, reader.texts, instruction or recording.custom.get("wam.instruction", ""))
    if instruction:
        texts = (instruction,) * len(times)
    if not all(texts):
        raise RecordingError(
            f"recording {recording.path} holds no task text",
            allowed="a topic /instruction (std_msgs/String) with a text",
            where="--instruction",
        )
    state = np.concatenate(reader.state.blocks)
    return EpisodeRows(times, state, names, action, texts), tuple(warnings)


def _late_commands(joints: list[str], recording: Recording) -> str:
    """Return a warning that commands of `joints` begin too late to be used; an error unless lenient."""
    error = RecordingError(
        f"commands of {', '.join(joints)} in {recording.path} begin later than the rows",
        allowed="commands of all joints from the first row on",
        where="the recording, or pass --lenient to leave these joints out of the action",
    )
    if not recording.lenient:
        raise error
    return str(error)


def read_images(
    recording: Recording,
    feed: Feed,
    times_ns: Stamps,
    *,
    robot: RobotDescription,
    use_stamps: bool = True,
) -> Iterator[Rgb]:
    """Yield the image nearest to every time of the grid, in order; two images are in memory.

    Raises:
        RecordingError: an image cannot be decoded, has another size, or (unless lenient) the nearest is older or newer
            than the camera's max_age.
    """
    camera = robot.camera(feed.camera)
    decoded: tuple[BagMessage, Rgb] | None = None
    for row, message in _nearest(recording.messages([feed.topic], use_stamps=use_stamps), times_ns):
        distance_ns = abs(message.time_ns - int(times_ns[row]))
        if distance_ns > camera.max_age_ns and not recording.lenient:
            raise RecordingError(
                f"camera {camera.name} of {recording.path} has a gap at {int(times_ns[row]) / NS_PER_S:.3f} s",
                value=f"nearest image {distance_ns / NS_PER_S:.3f} s away",
                allowed=f"max_age {camera.max_age_ns / NS_PER_S:.3f} s",
                where="the recording, or pass --lenient to repeat an image",
            )
        if decoded is None or decoded[0] is not message:
            size = (camera.height, camera.width)
            decoded = (message, decode_image(message.message, camera=camera.name, size=size))
        yield decoded[1]


def _nearest(messages: Iterator[BagMessage], times_ns: Stamps) -> Iterator[tuple[int, BagMessage]]:
    row, before = 0, None
    for message in messages:
        while row < len(times_ns) and times_ns[row] <= message.time_ns:
            near = before is not None and times_ns[row] - before.time_ns < message.time_ns - times_ns[row]
            yield row, before if before is not None and near else message
            row += 1
        before = message
    while before is not None and row < len(times_ns):
        yield row, before
        row += 1


def _texts_of(times_ns: Stamps, texts: list[tuple[int, str]], fallback: str) -> tuple[str, ...]:
    """Return the text in force at each time; the first one also holds before it was received."""
    if not texts:
        return (fallback,) * len(times_ns)
    starts = [time_ns for time_ns, _ in texts]
    return tuple(texts[max(0, bisect_right(starts, time_ns) - 1)][1] for time_ns in times_ns.tolist())
