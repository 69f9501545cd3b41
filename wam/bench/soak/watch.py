# SPDX-License-Identifier: Apache-2.0
"""What the nodes of a soak publish, kept in constant memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from wam.bench.soak.commands import GroupJudge
from wam.core.verdict import Ladder
from wam.robots.description import CommandKind, RobotDescription
from wam.ros.conversions import time_to_ns
from wam.ros.qos import CHUNK, SAFETY_STATUS
from wam.stack import topics
from wam.stack.listener import TopicListener
from wam.stack.samples import SafetyMove
from wam.stack.topics import StackTopic
from wam_msgs.msg import ActionChunk, SafetyStatus

# Their decoding is the business of the nodes; here they are only counted, or read field by field.
CHUNKS: StackTopic[ActionChunk] = StackTopic(
    "wam_executor/chunk", ActionChunk, CHUNK, lambda message: message
)
STATUS: StackTopic[SafetyStatus] = StackTopic(
    "wam_safety/safety_status", SafetyStatus, SAFETY_STATUS, lambda message: message
)


class SoakWatch:
    """Listens to the nodes of a soak.

    Args:
        robot: whose topics to listen to.
        file: its robot file, for the judge of the commands.

    Attributes:
        judges: joint group -> judge of its commands.
        status: newest status of the safety node, None before the first.
        chunks: chunks of the executor so far.
        codes: code -> events of the safety node so far.
        highest: highest rung since it was last set.
    """

    def __init__(self, robot: RobotDescription, file: Path) -> None:
        self.listener = TopicListener("wam_soak")
        self.judges: dict[str, GroupJudge] = {}
        self.status: Any = None
        self.chunks = 0
        self.events = 0
        self.codes: Counter[str] = Counter()
        self.highest = Ladder.NOMINAL
        for group in robot.groups:
            if group.command_kind is CommandKind.JOINT_STATE_STREAM:
                self.judges[group.name] = GroupJudge(group, file)
                self.listener.listen(topics.joint_commands(group), self.judges[group.name].take)
        self.listener.listen(CHUNKS, self._take_chunk)
        self.listener.listen(STATUS, self._take_status)
        self.listener.listen(topics.SAFETY_EVENTS, self._take_event)
        self.listener.start()

    @property
    def rung(self) -> Ladder | None:
        """Rung of the newest status, None before the first."""
        return None if self.status is None else Ladder(self.status.rung)

    def moves_since(self, time_ns: int) -> bool:
        """Return whether the safety node says that the arm moves, after `time_ns` [ns]; call it under the lock."""
        status = self.status
        return (
            status is not None
            and time_to_ns(status.header.stamp) > time_ns
            and bool(status.active)
            and not status.held
            and Ladder(status.rung) is Ladder.NOMINAL
        )

    def close(self) -> None:
        """Stop listening."""
        self.listener.close()

    def _take_chunk(self, _message: ActionChunk, _arrival_ns: int) -> None:
        self.chunks += 1

    def _take_status(self, status: SafetyStatus, _arrival_ns: int) -> None:
        self.status = status
        self.highest = max(self.highest, Ladder(status.rung))

    def _take_event(self, event: SafetyMove, _arrival_ns: int) -> None:
        self.events += 1
        self.codes[event.move.finding.code] += 1
        self.highest = max(self.highest, event.move.after)
