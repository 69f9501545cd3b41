# SPDX-License-Identifier: Apache-2.0
"""Check of a bag: its files, its topics against a robot, and every message of the topics that are used.

What is refused here is refused by the code that replay runs: the same reader, binding, order of stamps and ingest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from wam.core.errors import RecordingError
from wam.core.words import counted
from wam.data.bag.binding import NO_ACTION, Binding, TopicNames, bind_what_is_there, require_ros
from wam.data.bag.commands import COMMAND_TYPES
from wam.data.bag.reading import Recording
from wam.data.bag.stamp_warnings import stamp_warnings
from wam.data.bag.stamps import BagMessage
from wam.data.bag.topics import JOINT_STATE, STRING, WARNINGS
from wam.data.survey.bag import survey_bag
from wam.data.survey.images import IMAGE_TYPES
from wam.evaluation.check.messages import MessageCheck, RobotCheck, plain_check
from wam.evaluation.check.problem import CheckReport, ProblemKind, Problems, Severity
from wam.evaluation.metrics.time_gaps import MAX_GAP_NS, TimeGap, gap_warnings
from wam.robots.description import RobotDescription

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
FILES, TOPICS, CLOCKS = ProblemKind.FILES, ProblemKind.TOPICS, ProblemKind.CLOCKS

PROGRESS_MESSAGES = 256

USED_TYPES = (*IMAGE_TYPES, *COMMAND_TYPES)
"""Types of the topics that are checked where no robot says which are used."""

SI_UNITS = ("", "rad", "m", "share")
"""Guesses that need no word: SI units, and an opening of 0..1, which may be rad or m as well."""


def check_bag(
    path: Path, *, robot: RobotDescription | None, names: TopicNames, progress: Callable[[int, int], None]
) -> CheckReport:
    """Return all problems of a recording.

    Args:
        path: folder or file.
        robot: whose recording it is; None checks what can be checked without.
        names: topics that differ from the robot file.
        progress: called with messages done and in all.

    Raises:
        RecordingError: it is no recording at all.
    """
    problems = Problems()
    recording, told = _open(path, problems)
    with recording:
        # What cannot be decoded is counted, and the rest is still checked.
        recording.lenient = True
        binding = _binding(recording, robot, names, problems)
        messages = _read(recording, binding, robot, problems, progress)
        for warning in recording.warnings:
            if warning not in told:
                undecoded = "cannot be decoded" in warning
                kind = ProblemKind.MESSAGES if undecoded else FILES
                problems.add(
                    ERROR if undecoded else WARNING, kind, path.name, warning, remedy=_remedy(undecoded)
                )
    if robot is None:
        _guess(path, problems)
    return CheckReport(
        path, "recording", robot.name if robot else "", counted(messages, "message"), tuple(problems)
    )


def _remedy(undecoded: bool) -> str:
    return "the recording, or --lenient to skip such messages" if undecoded else ""


def _open(path: Path, problems: Problems) -> tuple[Recording, tuple[str, ...]]:
    """Return the recording, read as far as it can be, and the warnings that are told already.

    Raises:
        RecordingError: nothing of it can be read.
    """
    try:
        return Recording(path), ()
    except RecordingError as error:
        recording = Recording(path, lenient=True)
        problems.refused(FILES, path.name, error)
        return recording, recording.warnings


def _binding(
    recording: Recording, robot: RobotDescription | None, names: TopicNames, problems: Problems
) -> Binding | None:
    """Check the topics; return those that the robot uses."""
    for topic in recording.topics:
        if topic.unreadable:
            text = f"{topic.msgtype} is {topic.unreadable}"
            problems.add(
                WARNING, TOPICS, topic.name, text, remedy="the recorder (record as MCAP, with definitions)"
            )
        elif not topic.count:
            severity = WARNING if topic.msgtype in USED_TYPES else NOTE
            problems.add(severity, TOPICS, topic.name, f"{topic.msgtype} without a message")
    if not recording.message_count:
        problems.add(ERROR, FILES, recording.path.name, "holds no message", remedy="the recorder")
    try:
        require_ros(recording)
    except RecordingError as error:
        # Everything that is missing is missing for this reason.
        problems.refused(TOPICS, recording.path.name, error)
        return None if robot is None else Binding({}, ())
    if robot is None:
        return None
    cameras = [camera.name for camera in robot.cameras]
    found = bind_what_is_there(recording, robot=robot, cameras=cameras, names=names)
    blind = sum(what.startswith("camera ") for what, _ in found.missing) == len(cameras)
    for what, missing in found.missing:
        is_camera = what.startswith("camera ")
        # A policy may see fewer cameras than the robot has.
        severity = WARNING if is_camera and not blind else ERROR
        kind = ProblemKind.CAMERAS if is_camera else ProblemKind.ACTION if what == "the action" else TOPICS
        problems.refused(kind, what, missing, severity=severity)
    for warning in found.binding.warnings:
        remedy = _commands(recording, robot, found.binding) if warning == NO_ACTION else ""
        problems.add(WARNING, ProblemKind.ACTION, robot.name, warning, remedy=remedy)
    for line in recording.custom.get(WARNINGS, "").splitlines():
        problems.add(WARNING, FILES, recording.path.name, f"when the bag was made: {line}")
    return found.binding


def _commands(recording: Recording, robot: RobotDescription, binding: Binding) -> str:
    """Return which topics may hold the action."""
    states = {f"/{group.state_topic}" for group in robot.groups}
    found = [
        topic.name
        for topic in recording.topics
        if topic.msgtype in COMMAND_TYPES
        and topic.count
        and topic.name not in binding.feeds
        and topic.name not in states
    ]
    return f"if it is the action: --action-topic {' or '.join(found)}" if found else ""


def _read(
    recording: Recording,
    binding: Binding | None,
    robot: RobotDescription | None,
    problems: Problems,
    progress: Callable[[int, int], None],
) -> int:
    """Read every message of the topics that are used; return how many there were."""
    if binding is not None and robot is not None:
        names = list(binding.feeds)
        check: MessageCheck = RobotCheck(robot, binding, problems)
    else:
        names = [topic.name for topic in recording.topics if topic.msgtype in USED_TYPES]
        check = plain_check(problems)
    types = {topic.name: topic.msgtype for topic in recording.topics}
    total = sum(topic.count for topic in recording.topics if topic.name in names)
    first_ns: int | None = None
    last_ns, count, gaps = 0, 0, []
    for message in _ordered(recording, names, problems):
        if first_ns is None:
            first_ns = message.time_ns
        elif message.time_ns - last_ns > MAX_GAP_NS:
            gaps.append(TimeGap(last_ns, message.time_ns))
        last_ns = message.time_ns
        check.take(message)
        count += 1
        if count % PROGRESS_MESSAGES == 0:
            progress(count, total)
    check.finish()
    for line in gap_warnings(gaps, start_ns=first_ns or 0):
        problems.add(WARNING, ProblemKind.GAPS, recording.path.name, line)
    unstamped = {name for name in names if types.get(name) in _WITHOUT_HEADER}
    for line in stamp_warnings(recording.order.reports(), unstamped=unstamped):
        where, _, text = line.partition(": ")
        kind = ProblemKind.GAPS if _ONLY_GAPS.fullmatch(text) else CLOCKS
        problems.add(WARNING, kind, where, text or line)
    return count


_ONLY_GAPS = re.compile(r"\d+ gaps, the longest [\d.]+ s")
_WITHOUT_HEADER = (STRING, *(msgtype for msgtype in COMMAND_TYPES if msgtype.startswith("std_msgs/")))


def _ordered(recording: Recording, names: list[str], problems: Problems) -> Iterator[BagMessage]:
    try:
        messages = recording.messages(names)
    except RecordingError as error:
        problems.refused(CLOCKS, recording.path.name, error)
        messages = recording.messages(names, use_stamps=False)
    try:
        yield from messages
    except RecordingError as error:
        problems.refused(FILES, recording.path.name, error)


def _guess(path: Path, problems: Problems) -> None:
    """Add what the survey tells of units and cameras, where no robot says what is right."""
    for topic in survey_bag(path).topics:
        odd = [joint for joint in topic.joints if joint.unit.unit not in SI_UNITS]
        if odd and topic.msgtype == JOINT_STATE:
            text = (
                f"{len(odd)} joints seem to be in {odd[0].unit.text.rstrip('?')}, for example {odd[0].name}"
            )
            remedy = "conversion: of the joints in the robot file, if the guess is right"
            value = f"{text} ({odd[0].low:.4g} .. {odd[0].high:.4g}; {odd[0].unit.reason})"
            problems.add(WARNING, ProblemKind.COLUMNS, topic.name, value, remedy=remedy)
        if topic.camera is not None and topic.camera.problem:
            problems.add(WARNING, ProblemKind.CAMERAS, topic.name, topic.camera.problem)
