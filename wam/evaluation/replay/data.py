# SPDX-License-Identifier: Apache-2.0
"""What a finished replay leaves: figures, pages and files are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wam.core.contract import PolicyContract
from wam.data.bag.binding import Binding
from wam.data.bag.losses import RecordingLoss
from wam.data.bag.reading import Recording
from wam.data.bag.stamps import StampReport
from wam.evaluation.metrics.time_gaps import TimeGap, seconds_recorded
from wam.evaluation.replay.collect import Collector
from wam.evaluation.replay.engine import ReplayOptions
from wam.evaluation.replay.player import PlayerRecord
from wam.robots.description import RobotDescription


@dataclass(frozen=True, slots=True)
class ReplayData:
    """Everything that is known at the end of a replay.

    Attributes:
        options: what was replayed and how.
        robot: robot of the recording.
        contract: contract of the policy.
        recording: the open recording.
        binding: which topics were read.
        collector: what was collected from the events.
        player: what was gathered for the interactive view.
        stamps: statistics of the recording's stamps, per topic.
        instruction: task text in force at the end.
        first_ns: time of the first message [ns].
        last_ns: time of the last message [ns].
        gaps: times without messages that were jumped, in order.
        from_action: True where chunks were compared with a recorded action, False for the state measured later.
        unread: messages that could not be read, of all topics.
        damaged: messages that were read, and whose images are damaged.
        content: topic read -> hash of its messages.
        refused_messages: messages that the ingest refused.
        stopped: whether the replay was stopped before the end of the recording.
        backends: stage of the policy -> what ran it.
        warnings: one sentence each, for the user.
    """

    options: ReplayOptions
    robot: RobotDescription
    contract: PolicyContract
    recording: Recording
    binding: Binding
    collector: Collector
    player: PlayerRecord
    stamps: tuple[StampReport, ...]
    instruction: str
    first_ns: int
    last_ns: int
    gaps: tuple[TimeGap, ...]
    from_action: bool
    unread: tuple[RecordingLoss, ...]
    damaged: tuple[RecordingLoss, ...]
    content: Mapping[str, str]
    refused_messages: int
    stopped: bool
    backends: Mapping[str, str]
    warnings: tuple[str, ...]

    @property
    def duration(self) -> float:
        """Time from the first to the last message, without gaps [s]."""
        return self.seconds(self.last_ns)

    def seconds(self, time_ns: int) -> float:
        """Return a time since the start of the recording, without gaps [s]."""
        return float(seconds_recorded(time_ns, start_ns=self.first_ns, gaps=self.gaps))

    @property
    def losses(self) -> tuple[RecordingLoss, ...]:
        """Everything that was recorded and could not be used, of all topics."""
        return (*self.unread, *self.damaged)

    @property
    def lost_share(self) -> float:
        """Share of the messages of the topics that are read, and of those whose topic is not known, that was lost.

        Losses of unknown number are not in it.
        """
        used = {*self.binding.feeds, ""}
        unread = sum(loss.messages or 0 for loss in self.unread if loss.topic in used)
        damaged = sum(loss.messages or 0 for loss in self.damaged)
        recorded = sum(report.messages for report in self.stamps) + unread
        return (unread + damaged) / recorded if recorded else 0.0

    @property
    def reference(self) -> str:
        """What chunks were compared with, for people."""
        return "recorded action" if self.from_action else "state measured later"
