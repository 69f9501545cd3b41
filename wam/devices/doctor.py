# SPDX-License-Identifier: Apache-2.0
"""Checks of `wam doctor --robot NAME`: the state of each joint group and camera, from the messages of its driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wam.core.clock import NS_PER_MS
from wam.devices.loader import load_robot
from wam.devices.piper.arm import NODE_TIMEOUT_NS
from wam.devices.registry import make_watch
from wam.devices.reported import ReportedWatch
from wam.devices.state import DriverState, Readiness, StepKind, person, worst
from wam.devices.watch import Heard, Seen
from wam.robots.camera_spec import CameraSpec
from wam.robots.description import JointGroup, RobotDescription

LISTEN_S = 2.0
TIMEOUT_S = 30.0
SILENT = "silent"
"""Code of a driver that is there and sends nothing."""
SLOW_FACTOR = 0.5
"""A topic below this share of its nominal rate is reported."""

AHEAD_NS = 2 * NS_PER_MS
"""Stamps further ahead of this computer's clock prove that it and the publisher's differ [ns]."""

LOSS = (
    "Fast DDS loses large images without a profile, or with small socket buffers between computers "
    "(docs/how-to/two-computers.md); or the driver's rate is another one"
)
LOSS_WITH_PROFILE = (
    "this computer is busy; or the shell of the camera's driver has no FASTDDS_DEFAULT_PROFILES_FILE (this one has); "
    "or socket buffers between computers are small (docs/how-to/two-computers.md); or the driver's rate is another one"
)
SYNCHRONISE = "synchronise the clocks of both computers: chrony or PTP (docs/how-to/two-computers.md)"


@dataclass(frozen=True, slots=True)
class GroupReport:
    """State of one joint group or camera.

    Attributes:
        group: its name; that of a camera begins with "camera ".
        state: its state and the steps back to ready.
    """

    group: str
    state: DriverState

    @property
    def remedy(self) -> str:
        """The steps as one text; empty when there is nothing to do."""
        texts = []
        for number, step in enumerate(self.state.steps, 1):
            call = "" if step.kind is StepKind.PERSON else f" [{step.kind.value} {step.name}]"
            texts.append(f"{number}. {step.text}{call}{' (the robot may move)' if step.moves else ''}")
        if any(step.kind is not StepKind.PERSON and not step.moves for step in self.state.steps):
            texts.append(
                "the calls that do not move the robot, in order, once you have looked: "
                "ros2 service call /wam_driver/recover std_srvs/srv/Trigger"
            )
        return "\n".join(texts)


def examine(
    robot_name: str, environment: Mapping[str, str] | None = None, *, seconds: float = LISTEN_S
) -> list[GroupReport]:
    """Listen to the robot's drivers in a process of its own and return the state of each group and camera.

    Args:
        robot_name: a name in config/robots or the path of a YAML file.
        environment: environment of that process; None takes this one's.
        seconds: how long to listen [s].

    Raises:
        ConfigError: there is no such robot.
    """
    robot = load_robot(robot_name)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "wam_driver_node.listen", str(robot.source), str(seconds)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S + seconds,
            env=dict(os.environ if environment is None else environment),
        )
    except subprocess.TimeoutExpired:
        return [_unreachable(robot, f"no answer within {TIMEOUT_S + seconds:.0f} s")]
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return [_unreachable(robot, lines[-1].strip() if lines else f"ended with {done.returncode}")]
    return judge_all(robot, json.loads(done.stdout.strip().splitlines()[-1]))


def judge_all(robot: RobotDescription, seen: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[GroupReport]:
    """Return the state of each group and camera that was listened to.

    Args:
        robot: its groups and cameras.
        seen: measurements of `wam_driver_node.listen`.
    """
    by_group = {one["group"]: one for one in seen["groups"]}
    by_camera = {one["camera"]: one for one in seen["cameras"]}
    groups = [
        GroupReport(group.name, judge(group, by_group[group.name]))
        for group in robot.groups
        if group.name in by_group
    ]
    return groups + [
        GroupReport(f"camera {camera.name}", judge_camera(camera, by_camera[camera.name]))
        for camera in robot.cameras
        if camera.name in by_camera
    ]


def judge_camera(camera: CameraSpec, seen: Mapping[str, Any]) -> DriverState:
    """Return the state of a camera."""
    if not seen["publishers"]:
        return DriverState(
            Readiness.DEGRADED,
            "no_camera",
            f"{camera.topic} has no publisher: a policy that needs this camera waits for it, and the arm is held",
            (person(f"start the driver of camera {camera.name}, or correct its `topic` in the robot file"),),
        )
    source = ", ".join(seen["publishers"])
    loss = person(LOSS_WITH_PROFILE if seen.get("profile") else LOSS)
    if seen["messages"] == 0:
        return DriverState(
            Readiness.ABSENT, "silent", f"{source} is there and no image arrives on {camera.topic}", (loss,)
        )
    if clock := _clock("images", seen, camera.max_age_ns):
        return clock
    found = f"{seen['rate']:.0f} Hz from {source}, {_offsets(seen)}"
    if seen["rate"] < SLOW_FACTOR * camera.rate:
        return DriverState(Readiness.DEGRADED, "slow", f"{found}; nominal {camera.rate:.0f} Hz", (loss,))
    return DriverState(Readiness.READY, "images", found)


def judge(group: JointGroup, seen: Mapping[str, Any]) -> DriverState:
    """Return the more severe of the states by joint states and by the vendor's status."""
    stream, watch = _stream(group, seen), make_watch(group)
    if stream.code == SILENT and watch.standing:
        return watch.fallen(stream.text)
    if stream.code == SILENT and isinstance(watch, ReportedWatch):  # its driver says why
        return worst([watch.state(Seen(0, seen["values"])), stream])
    if stream.readiness is Readiness.ABSENT:
        return stream
    # The measurement is replayed: a first stamp at time zero, and a second one if the stamps advanced.
    names = tuple(seen.get("names", ()))
    for stamp_ns in seen.get("first_stamps_ns", ()):
        watch.on_joint_state(Heard(stamp_ns, 0, names))
    watch.on_joint_state(Heard(0, 0))
    watch.on_joint_state(Heard(1 if seen["distinct_stamps"] > 1 else 0, NODE_TIMEOUT_NS))
    watch.on_parameters(seen.get("parameters", {}))
    vendor = watch.state(Seen(NODE_TIMEOUT_NS, seen["values"], seen["lacking"]))
    # Of two equally severe states the vendor's is more specific.
    found = worst([vendor, stream])
    told = [] if found is stream or seen["messages"] == 0 else [_offsets(seen)]
    told += [f"driver: {watch.found}"] if watch.found else []
    return replace(found, text="; ".join([found.text, *told])) if told else found


def of_this_group(names: Sequence[str], topic: str, others: Sequence[str]) -> list[str]:
    """Return those of `names` that may be a group's topic in another namespace, in order.

    They end in the last part of its topic, and not in the whole topic of another group, unless its own is longer.

    Args:
        names: full names of topics of the right type.
        topic: the group's, as the robot file has it.
        others: those of the robot's other groups.
    """

    def fit(name: str, other: str) -> int:
        return len(other) if name.endswith("/" + other.lstrip("/")) else 0

    tail = "/" + topic.rpartition("/")[2]
    return sorted(
        name
        for name in names
        if name.endswith(tail) and fit(name, topic) >= max((fit(name, other) for other in others), default=0)
    )


def _stream(group: JointGroup, seen: Mapping[str, Any]) -> DriverState:
    topic, publishers = group.state_topic, seen["publishers"]
    if not publishers:
        elsewhere = seen["same_name_elsewhere"]
        if elsewhere:
            return DriverState(
                Readiness.ABSENT,
                "other_namespace",
                f"{topic} has no publisher, but there is {', '.join(elsewhere)}",
                (
                    person(
                        f"start the driver or the suite in the same namespace, or correct `topic` of {group.name}"
                    ),
                ),
            )
        return DriverState(
            Readiness.ABSENT,
            "no_driver",
            f"{topic} has no publisher",
            (
                person(f"start the driver of {group.name} ({group.driver})"),
                person("compare ROS_DOMAIN_ID and the discovery range of both sides"),
            ),
        )
    if len(publishers) > 1:
        return DriverState(
            Readiness.BLOCKED,
            "two_publishers",
            f"{len(publishers)} publishers on {topic}: {', '.join(publishers)}",
            (person("stop all drivers but one"),),
        )
    if seen["messages"] == 0:
        return DriverState(
            Readiness.ABSENT,
            SILENT,
            f"{publishers[0]} is there and sends nothing on {topic}",
            (person("look at the driver's log; is the device switched on?"),),
        )
    if seen["error"]:
        return DriverState(
            Readiness.BLOCKED,
            "bad_joint_states",
            seen["error"],
            (person("compare the driver with the robot file"),),
        )
    if clock := _clock("joint states", seen, group.state_max_age_ns):
        return clock
    if seen["rate"] < SLOW_FACTOR * group.state_rate:
        return DriverState(
            Readiness.DEGRADED,
            "slow",
            f"{seen['rate']:.0f} Hz on {topic}, nominal {group.state_rate:.0f} Hz",
            (person("look for a loaded machine or network, or correct `rate` in the robot file"),),
        )
    return DriverState(
        Readiness.READY,
        "joint_states",
        f"{seen['rate']:.0f} Hz from {publishers[0]}, {_offsets(seen)}",
    )


def _clock(what: str, seen: Mapping[str, Any], max_age_ns: int) -> DriverState | None:
    """Return the state of a stream whose stamps do not fit this computer's clock, None where they do.

    One-way delay and clock offset cannot be told apart by one stream, but no message arrives before it was sent.
    """
    if seen["distinct_stamps"] <= 1:
        return None
    if abs(seen["age_ns"]) > max_age_ns + 50 * NS_PER_MS:
        return DriverState(
            Readiness.BLOCKED,
            "stale_stamps",
            f"{what} are {seen['age_ns'] / NS_PER_MS:.0f} ms old on arrival, allowed {max_age_ns / NS_PER_MS:.0f} ms",
            (person(_stale(seen["age_ns"])),),
        )
    if seen["least_age_ns"] < -AHEAD_NS:
        return DriverState(
            Readiness.DEGRADED,
            "clock_offset",
            f"{what} arrive before their stamps: the publisher's clock is ahead by "
            f"{-seen['least_age_ns'] / NS_PER_MS:.1f} ms or more",
            (person(SYNCHRONISE),),
        )
    return None


def _stale(age_ns: int) -> str:
    clocks = f"{SYNCHRONISE}; with /clock use use_sim_time"
    # Load makes messages late, never early.
    return f"this computer is busy: look at its load; or, with two, {clocks}" if age_ns > 0 else clocks


def _offsets(seen: Mapping[str, Any]) -> str:
    """Return the time between stamp and receipt, by this computer's clock."""
    return f"stamp to receipt {seen['age_ns'] / NS_PER_MS:.1f} ms, least {seen['least_age_ns'] / NS_PER_MS:.1f} ms"


def _unreachable(robot: RobotDescription, why: str) -> GroupReport:
    return GroupReport(
        robot.name,
        DriverState(
            Readiness.ABSENT,
            "cannot_listen",
            f"the drivers of {robot.name} cannot be listened to: {why}",
            (person("make setup, or source a ROS 2 distribution; then wam doctor without --robot"),),
        ),
    )
