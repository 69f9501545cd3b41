# SPDX-License-Identifier: Apache-2.0
"""What of a recording is lost: how many messages of which topic, how many seconds, and why."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.words import counted

MOST_PERIODS = 5.0
"""A lost message stands for at most so many usual intervals: a pause after it was not lost with it."""

NAMED = 4
"""Topics that a line names at most."""

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RecordingLoss:
    """Messages that cannot be used, of one topic and for one reason.

    Attributes:
        topic: theirs; "" where it is not known, or for all.
        messages: their number; None where it is not known.
        seconds: time of the topic that is lost: from each lost message to the next one of the topic [s]; None where it
            is not known.
        reason: one clause.
    """

    topic: str
    messages: int | None
    seconds: float | None
    reason: str

    def amount(self) -> str:
        """Return what is lost, for people."""
        if self.messages is None:
            what = f"messages of {self.topic}" if self.topic else "messages"
        else:
            what = f"{self.messages} message{'s' if self.messages != 1 else ''}"
            what += f" of {self.topic}" if self.topic else ""
        if self.seconds is not None:
            return f"{what} ({self.seconds:.2f} s)"
        return what + (" (how many is not known)" if self.messages is None else "")


class LossTally:
    """Collects the times of lost messages by topic and reason; eight bytes each."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], array[int]] = {}

    def add(self, topic: str, reason: str, time_ns: int) -> None:
        """Add a lost message."""
        self._times.setdefault((topic, reason), array("q")).append(time_ns)

    def forget(self, topics: Iterable[str]) -> None:
        """Drop what was added of topics, before they are read once more."""
        gone = set(topics)
        self._times = {key: times for key, times in self._times.items() if key[0] not in gone}

    def count(self, topic: str) -> int:
        """Return how many messages of a topic were added."""
        return sum(len(times) for (name, _), times in self._times.items() if name == topic)

    def losses(self, kept: Mapping[str, Times]) -> tuple[RecordingLoss, ...]:
        """Return the losses, in order of topic.

        Args:
            kept: topic -> times of its messages that are not lost, or of all, on the axis of those added [ns].
        """
        return tuple(
            RecordingLoss(topic, len(times), seconds_lost(kept.get(topic), times), reason)
            for (topic, reason), times in sorted(self._times.items())
        )


def seconds_lost(kept: Times | None, lost: Sequence[int] | array[int]) -> float | None:
    """Return the time from every lost message to the next one of its topic, in all [s].

    The last one of a topic stands for the usual interval (the median), as does each that is followed by a longer pause
    than five of them for no more than these five.

    Args:
        kept: times of the topic's other messages, in any order, perhaps with the lost ones among them [ns].
        lost: times of the lost ones [ns].

    Returns:
        The time, or None where there are fewer than two times.
    """
    gone = np.asarray(lost, dtype=np.int64)
    every = np.unique(gone if kept is None else np.concatenate((kept, gone)))
    if len(every) < 2:
        return None
    steps = np.diff(every)
    usual = float(np.median(steps))
    steps = np.append(np.minimum(steps, MOST_PERIODS * usual), usual)
    return float(steps[np.searchsorted(every, np.unique(gone))].sum()) / NS_PER_S


def interval_of(kept: Times | None) -> float | None:
    """Return the usual interval of a topic's messages [s], or None for fewer than two."""
    if kept is None or len(kept) < 2:
        return None
    return float(np.median(np.diff(np.sort(kept)))) / NS_PER_S


def loss_lines(losses: Iterable[RecordingLoss]) -> tuple[str, ...]:
    """Return one line for each reason, which names what is lost."""
    by_reason: dict[str, list[RecordingLoss]] = {}
    for loss in losses:
        by_reason.setdefault(loss.reason, []).append(loss)
    lines = []
    for reason, group in by_reason.items():
        # Those that lost most come first.
        group.sort(key=lambda loss: -(loss.messages or 0))
        named = [loss.amount() for loss in group[:NAMED]]
        rest = len(group) - len(named)
        also = f" and those of {counted(rest, 'more topic')}" if rest else ""
        lines.append(f"{reason}: lost are {', '.join(named)}{also}")
    return tuple(lines)
