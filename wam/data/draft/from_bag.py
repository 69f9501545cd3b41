# SPDX-License-Identifier: Apache-2.0
"""Draft of the robot of a recording."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wam.core.errors import RecordingError
from wam.data.bag.reading import Recording
from wam.data.bag.topics import ACTION_TOPIC, JOINT_STATE, JOINT_TRAJECTORY
from wam.data.bag.video_packets import VIDEO_PACKETS
from wam.data.draft.joints import Observed, draft_joints
from wam.data.draft.names import camera_name, distinct, group_name, legal
from wam.data.draft.states import NameSet, read_name_sets, together
from wam.data.draft.values import DraftCamera, DraftCommand, DraftGroup
from wam.data.survey.values import BagSurvey, TopicSurvey
from wam.robots.description import GRIPPER_WORDS, CommandKind
from wam.robots.images import COMPRESSED_FORMATS, RAW_ENCODINGS
from wam.robots.names import is_topic
from wam.robots.urdf import UrdfJoint

LEAST_AGE_S = 0.1
"""Shortest max_age of a draft [s]."""

GAP_SHARE = 1.2
PERIODS = 3.0
MOST_RATE, LEAST_RATE = 1000.0, 0.1
"""Rates that a robot file takes [Hz]; those of commands of one message are not known."""


@dataclass(frozen=True, slots=True)
class BagDraft:
    """What a recording tells.

    Attributes:
        groups: joint groups.
        cameras: cameras.
        commands: shell commands that replay it; ROBOT stands for the file of the draft.
        remarks: what was left out and why.
    """

    groups: tuple[DraftGroup, ...]
    cameras: tuple[DraftCamera, ...]
    commands: tuple[str, ...]
    remarks: tuple[str, ...]


def draft_bag(survey: BagSurvey, model: Mapping[str, UrdfJoint]) -> BagDraft:
    """Return what a recording tells of its robot.

    Args:
        survey: of the recording.
        model: joints of the URDF by name; empty without one.

    Raises:
        RecordingError: it has no joint states that can be read.
    """
    remarks: list[str] = []
    states = _states(survey, remarks)
    with Recording(survey.path, lenient=True) as recording:
        sets = read_name_sets(recording, [topic.name for topic in states])
        cameras = tuple(_cameras(survey, recording, remarks))
    groups = _groups(survey, states, sets, model, remarks)
    if not groups:
        raise RecordingError(
            f"recording {survey.path} has no joint state with finite positions",
            value=[topic.name for topic in states],
            allowed=f"a topic of type {JOINT_STATE} with a position for every name",
            where="the recording",
        )
    words = ["wam", "replay", str(survey.path), "--robot", "ROBOT", "--policy", "fake", "--report", "out"]
    broken = any(one.broken for found in sets.values() for one in found) or any(
        topic.undecoded for topic in survey.topics
    )
    options = ["--lenient"] if broken or not _reads_strictly(survey.path) else []
    return BagDraft(
        _with_commands(survey, groups, remarks),
        cameras,
        (shlex.join([*words, *options]),),
        tuple(remarks),
    )


def _reads_strictly(path: Path) -> bool:
    try:
        with Recording(path):
            return True
    except RecordingError:
        return False


def _states(survey: BagSurvey, remarks: list[str]) -> list[TopicSurvey]:
    """Return the topics with joint states, those that are commands left out."""
    found = [
        topic
        for topic in survey.topics
        if topic.msgtype == JOINT_STATE and topic.count and not topic.unreadable
    ]
    states = [topic for topic in found if not topic.is_command]
    if not states:
        others = ", ".join(f"{topic.name} ({topic.msgtype})" for topic in survey.topics[:12])
        raise RecordingError(
            f"recording {survey.path} has no joint states",
            value=others or "no topic",
            allowed=f"a topic of type {JOINT_STATE} that is not one of commands",
            where="the recorder",
        )
    for topic in states:
        if not is_topic(topic.name.lstrip("/")):
            remarks.append(f"{topic.name}: a robot file cannot name this topic")
    return [topic for topic in states if is_topic(topic.name.lstrip("/"))]


def _groups(
    survey: BagSurvey,
    states: Sequence[TopicSurvey],
    sets: Mapping[str, tuple[NameSet, ...]],
    model: Mapping[str, UrdfJoint],
    remarks: list[str],
) -> list[DraftGroup]:
    parts = [(topic, part) for topic in states for part in together(sets[topic.name])]
    for topic in states:
        if not sets[topic.name]:
            remarks.append(f"{topic.name}: no message has a finite position for every name")
    single = len(states) == 1
    names = distinct(
        "gripper" if len(parts) > 1 and _is_gripper(part) else "body" if single else group_name(topic.name)
        for topic, part in parts
    )
    # Policy-side names are unique in a robot, while two arms often have one driver's names.
    joints = [set(name for one in part for name in one.names) for _, part in parts]
    alike = {
        i for i, j in itertools.permutations(range(len(parts)), 2) if not joints[i].isdisjoint(joints[j])
    }
    return [
        _group(
            topic,
            part,
            model,
            name=names[i],
            prefix=f"{names[i]}_" if i in alike else "",
            duration=survey.duration,
        )
        for i, (topic, part) in enumerate(parts)
    ]


def _group(
    topic: TopicSurvey,
    part: Sequence[NameSet],
    model: Mapping[str, UrdfJoint],
    *,
    name: str,
    prefix: str,
    duration: float,
) -> DraftGroup:
    order = list(dict.fromkeys(joint for one in part for joint in one.names))
    observed = [_observed(joint, part) for joint in order]
    rates = [one.rate for one in part if math.isfinite(one.rate)]
    rate = _rate(max(rates, default=math.nan), topic.count, duration)
    slowest_s = 1.0 / _rate(min(rates, default=math.nan), topic.count, duration)
    longest_s = max(one.longest_s for one in part)
    remarks = [
        f"{len(part)} lists of names on one topic, merged by name: {', '.join(str(len(one.names)) for one in part)} "
        "joints"
    ] * (len(part) > 1)
    broken = sum(one.broken for one in part)
    if broken:
        remarks.append(f"{broken} messages have no finite position for every name; --lenient leaves them out")
    return DraftGroup(
        name=name,
        topic=topic.name.lstrip("/"),
        rate=rate,
        max_age_s=max_age(slowest_s, longest_s),
        joints=draft_joints(observed, model, prefix=prefix),
        prefix=prefix,
        remarks=tuple(remarks),
    )


def _is_gripper(part: Sequence[NameSet]) -> bool:
    names = [name.lower() for one in part for name in one.names]
    return all(any(word in name for word in GRIPPER_WORDS) for name in names)


def _observed(joint: str, part: Sequence[NameSet]) -> Observed:
    having = [(one, one.names.index(joint)) for one in part if joint in one.names]
    return Observed(
        joint,
        min(float(one.low[at]) for one, at in having),
        max(float(one.high[at]) for one, at in having),
        max(float(one.speed[at]) for one, at in having),
    )


def _rate(rate: float, count: int, duration: float) -> float:
    if not math.isfinite(rate):
        rate = count / duration if duration > 0 else 1.0
    return float(f"{min(MOST_RATE, max(LEAST_RATE, rate)):.4g}")


def max_age(period_s: float, longest_s: float = 0.0) -> float:
    """Return how old a sample of a stream may be [s], from its period and the longest interval seen."""
    age = max(LEAST_AGE_S, PERIODS * period_s, GAP_SHARE * longest_s)
    return math.ceil(age * 1e3) / 1e3


def _with_commands(
    survey: BagSurvey, groups: Sequence[DraftGroup], remarks: list[str]
) -> tuple[DraftGroup, ...]:
    """Return the groups with the commands that were recorded for their joints."""
    found = list(groups)
    for topic in survey.topics:
        if not topic.is_command or not topic.count or topic.unreadable:
            continue
        if topic.name == ACTION_TOPIC:
            remarks.append(f"{topic.name}: recorded commands, taken as the action without being named")
            continue
        names = {joint.name for joint in topic.joints}
        fitting = [
            i
            for i, group in enumerate(found)
            if group.command is None and names and names <= {joint.driver_name for joint in group.joints}
        ]
        near = [i for i in fitting if _shares_folder(topic.name, found[i].topic)] or fitting
        kinds = {
            JOINT_STATE: CommandKind.JOINT_STATE_STREAM,
            JOINT_TRAJECTORY: CommandKind.JOINT_TRAJECTORY,
        }
        if len(near) == 1 and topic.msgtype in kinds and is_topic(topic.name.lstrip("/")):
            rate = _rate(topic.rate, topic.count, survey.duration)
            command = DraftCommand(kinds[topic.msgtype], topic.name.lstrip("/"), rate)
            found[near[0]] = replace(found[near[0]], command=command)
        elif topic.joints:
            remarks.append(
                f"{topic.name} ({topic.msgtype}, {len(topic.joints)} values): recorded commands; "
                f"wam replay --action-topic {topic.name} takes them as the action"
            )
    return tuple(found)


def _shares_folder(first: str, second: str) -> bool:
    one, other = first.strip("/").split("/"), second.strip("/").split("/")
    return len(one) > 1 and len(other) > 1 and one[0] == other[0]


def _cameras(survey: BagSurvey, recording: Recording, remarks: list[str]) -> list[DraftCamera]:
    kept: dict[str, TopicSurvey] = {}
    for topic in survey.cameras:
        camera = topic.camera
        if camera is None or topic.unreadable or not topic.count:
            continue
        if camera.problem or not camera.height:
            remarks.append(f"{topic.name}: left out: {camera.problem or 'no image could be read'}")
            continue
        if not is_topic(topic.name.lstrip("/")):
            remarks.append(f"{topic.name}: a robot file cannot name this topic")
            continue
        base = camera_name(topic.name)
        other = kept.get(base)
        # An image and its compressed copy are one camera; the one with more messages was recorded on purpose.
        if other is not None:
            less = topic if other.count >= topic.count else other
            remarks.append(f"{less.name}: left out, as another transport of camera {base}")
        if other is None or topic.count > other.count:
            kept[base] = topic
    return [_camera(name, topic, survey, recording) for name, topic in kept.items()]


def _camera(name: str, topic: TopicSurvey, survey: BagSurvey, recording: Recording) -> DraftCamera:
    camera = topic.camera
    assert camera is not None
    encodings = COMPRESSED_FORMATS if camera.is_compressed else tuple(RAW_ENCODINGS)
    remarks = []
    encoding = camera.encoding
    if encoding not in encodings:
        encoding = encodings[0]
        remarks.append(f"recorded as {camera.encoding or '(not stated)'}, which is decoded all the same")
    if topic.msgtype in VIDEO_PACKETS:
        remarks.append(f"packets of a video ({topic.msgtype})")
    rate = _rate(topic.rate, topic.count, survey.duration)
    clock = topic.clock
    longest_s = clock.longest_gap_s if clock is not None and clock.longest_gap_s < 5.0 / rate else 0.0
    return DraftCamera(
        name=name,
        topic=topic.name.lstrip("/"),
        compressed=camera.is_compressed,
        encoding=encoding,
        height=camera.height,
        width=camera.width,
        rate=rate,
        max_age_s=max_age(1.0 / rate, longest_s),
        frame_id=_frame_id(recording, topic, name),
        remarks=tuple(remarks),
    )


def _frame_id(recording: Recording, topic: TopicSurvey, name: str) -> str:
    frame = f"{name}_optical_frame"
    if topic.msgtype in VIDEO_PACKETS:
        return frame
    first = next(iter(recording.messages([topic.name])), None)
    header = getattr(first.message, "header", None) if first is not None else None
    return legal(str(getattr(header, "frame_id", "")).strip("/"), otherwise=frame)
