# SPDX-License-Identifier: Apache-2.0
"""Checks of `wam doctor --robot NAME`: the state of each joint group, from the messages of its driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wam.core.clock import NS_PER_MS
from wam.devices.loader import load_robot
from wam.devices.piper.arm import NODE_TIMEOUT_NS
from wam.devices.registry import make_watch
from wam.devices.state import DriverState, Readiness, StepKind, person, worst
from wam.devices.watch import Seen
from wam.robots.description import JointGroup, RobotDescription

LISTEN_S = 2.0
TIMEOUT_S = 30.0
SLOW_FACTOR = 0.5
"""A state topic below this share of its nominal rate is reported."""


@dataclass(frozen=True, slots=True)
class GroupReport:
    """State of one joint group.

    Attributes:
        group: its name.
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
    """Listen to the robot's drivers in a process of its own and return the state of each joint group.

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


def judge_all(robot: RobotDescription, seen: Sequence[Mapping[str, Any]]) -> list[GroupReport]:
    """Return the state of each group that has a driver.

    Args:
        robot: its groups.
        seen: measurements of `wam_driver_node.listen`, one per group.
    """
    by_group = {one["group"]: one for one in seen}
    return [
        GroupReport(group.name, judge(group, by_group[group.name]))
        for group in robot.groups
        if group.name in by_group
    ]


def judge(group: JointGroup, seen: Mapping[str, Any]) -> DriverState:
    """Return the more severe of the states by joint states and by the vendor's status."""
    stream = _stream(group, seen)
    if stream.readiness is Readiness.ABSENT:
        return stream
    watch = make_watch(group)
    # The measurement is replayed: a first stamp at time zero, and a second one if the stamps advanced.
    watch.on_joint_state(0, 0)
    watch.on_joint_state(1 if seen["distinct_stamps"] > 1 else 0, NODE_TIMEOUT_NS)
    vendor = watch.state(Seen(NODE_TIMEOUT_NS, seen["values"], seen["lacking"]))
    # Of two equally severe states the vendor's is more specific.
    return worst([vendor, stream])


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
            "silent",
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
    if seen["distinct_stamps"] > 1 and abs(seen["age_ns"]) > group.state_max_age_ns + 50 * NS_PER_MS:
        return DriverState(
            Readiness.BLOCKED,
            "stale_stamps",
            f"joint states are {seen['age_ns'] / NS_PER_MS:.0f} ms old on arrival, "
            f"allowed {group.state_max_age_ns / NS_PER_MS:.0f} ms",
            (
                person(
                    "synchronise the clocks of both machines (chrony or PTP); with /clock use use_sim_time"
                ),
            ),
        )
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
        f"{seen['rate']:.0f} Hz from {publishers[0]}, {seen['age_ns'] / NS_PER_MS:.0f} ms old",
    )


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
