# SPDX-License-Identifier: Apache-2.0
"""What a stretch of the running loop has left, and the figures of `wam bench loop` from it. No ROS, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.bench.result import percentiles
from wam.core.clock import NS_PER_S
from wam.evaluation.held import AT_START

Stamps = npt.NDArray[np.int64]
Milliseconds = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Published:
    """The messages of one topic.

    Attributes:
        stamps_ns: int64 [T], header stamps, on the clock of the simulation [ns].
        sent_ns: int64 [T], when they were published, on the system clock [ns].
        rate: nominal rate [Hz]; 0 where there is none.
    """

    stamps_ns: Stamps
    sent_ns: Stamps
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Received:
    """Messages of one topic that a node had received at two moments.

    Attributes:
        count: received between the two.
        time: between the two [s].
        rate: nominal rate of the topic [Hz].
    """

    count: int
    time: float
    rate: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the loop without interruption: one episode.

    Attributes:
        time: its length, simulated [s].
        wall: its length in wall time [s].
        states: joint states, by joint group.
        commands: commands, by joint group.
        chunks: action chunks; the stamp is that of the newest image, or of what the policy has instead.
        chunk_ns: int64 [K], time that the policy has taken for each chunk [ns].
        received: joint states that reached the policy, one for each joint group.
        held: why the arm was held -> time [s].
        ticks: cycles of the command thread.
        missed: deadlines that it skipped.
        wake_up_p99: its lateness in starting a cycle, 99th percentile [s]; NaN where it was not told.
        images: camera images.
        contexts: planner contexts.
    """

    time: float
    wall: float
    states: Sequence[Published]
    commands: Sequence[Published]
    chunks: Published
    chunk_ns: Stamps
    received: Sequence[Received]
    held: Mapping[str, float]
    ticks: int
    missed: int
    wake_up_p99: float
    images: int
    contexts: int


def loop_figures(stretches: Sequence[Stretch], cores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the results of the bench; a figure without data is left out.

    Args:
        stretches: of the run.
        cores: process -> part -> share of a core.
    """
    results: dict[str, float] = {}
    time = sum(one.time for one in stretches)

    def spread(name: str, values: Sequence[Milliseconds]) -> None:
        joined = np.concatenate(values) if values else np.zeros(0)
        if len(joined):
            results.update(percentiles(name, "ms", joined.tolist()))

    spread("loop_chunk", [one.chunk_ns * 1e-6 for one in stretches])
    spread("loop_image_to_chunk", [image_to_chunk_ms(one) for one in stretches])
    spread("loop_state_to_command", [ms for one in stretches for ms in state_to_command_ms(one)])
    jitter = [ms for one in stretches for ms in command_jitter_ms(one)]
    spread("loop_command_jitter", jitter)
    if any(len(values) for values in jitter):
        results["loop_command_jitter_p999_ms"] = round(float(np.percentile(np.concatenate(jitter), 99.9)), 4)
    expected = sum(one.rate * one.time for stretch in stretches for one in stretch.received)
    if expected > 0.0:
        arrived = sum(one.count for stretch in stretches for one in stretch.received)
        results["loop_joint_state_share"] = round(arrived / expected, 4)
    if time > 0.0:
        results |= _held(stretches, time) | _rates(stretches, time)
    return results | core_figures(cores)


def image_to_chunk_ms(stretch: Stretch) -> Milliseconds:
    """Return the time from the stamp of each chunk's image to its publication [ms], float64 [K].

    The joint states tell when the simulation reached a stamp: they are published at once.
    """
    chunks, clock = stretch.chunks, next((one for one in stretch.states if len(one.stamps_ns)), None)
    if clock is None:
        return np.zeros(0)
    inside = (chunks.stamps_ns >= clock.stamps_ns[0]) & (chunks.stamps_ns <= clock.stamps_ns[-1])
    origin = clock.sent_ns[0]
    reached = np.interp(
        chunks.stamps_ns[inside], clock.stamps_ns, (clock.sent_ns - origin).astype(np.float64)
    )
    taken: Milliseconds = ((chunks.sent_ns[inside] - origin) - reached) * 1e-6
    return taken


def state_to_command_ms(stretch: Stretch) -> list[Milliseconds]:
    """Return, by joint group, the time from the newest joint states to each command, both as published [ms]."""
    taken = []
    for states, commands in zip(stretch.states, stretch.commands, strict=False):
        newest = np.searchsorted(states.sent_ns, commands.sent_ns) - 1
        known = newest >= 0
        taken.append((commands.sent_ns[known] - states.sent_ns[newest[known]]) * 1e-6)
    return taken


def command_jitter_ms(stretch: Stretch) -> list[Milliseconds]:
    """Return, by joint group, the distance of each interval between two commands from the period [ms]."""
    return [
        np.abs(np.diff(one.sent_ns) - NS_PER_S / one.rate) * 1e-6
        for one in stretch.commands
        if one.rate > 0.0
    ]


def core_figures(cores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the cores in use: in all, by process, by part of a process, the largest first."""
    if not cores:
        return {}
    whole = {process: sum(parts.values()) for process, parts in cores.items()}
    results = {"loop_cores": round(sum(whole.values()), 3)}
    for process in sorted(whole, key=lambda name: -whole[name]):
        results[f"loop_cores_{process}"] = round(whole[process], 3)
        for part, share in sorted(cores[process].items(), key=lambda item: -item[1]):
            if round(share, 3) > 0.0:
                results[f"loop_cores_{process}_{part}"] = round(share, 3)
    return results


def _held(stretches: Sequence[Stretch], time: float) -> dict[str, float]:
    causes: dict[str, float] = {}
    for one in stretches:
        for code, held in one.held.items():
            causes[code] = causes.get(code, 0.0) + held
    start = causes.pop(AT_START, 0.0)
    return {
        "loop_held_share": round(sum(causes.values()) / time, 4),
        "loop_held_at_start_s": round(start / len(stretches), 3),
        **{f"loop_held_{code}_share": round(held / time, 4) for code, held in causes.items()},
    }


def _rates(stretches: Sequence[Stretch], time: float) -> dict[str, float]:
    counts = {
        "loop_images_hz": sum(one.images for one in stretches),
        "loop_contexts_hz": sum(one.contexts for one in stretches),
        "loop_chunks_hz": sum(len(one.chunk_ns) for one in stretches),
        "loop_joint_states_hz": _busiest([one.states for one in stretches]),
        "loop_commands_hz": _busiest([one.commands for one in stretches]),
    }
    wake_ups = [one.wake_up_p99 for one in stretches if one.wake_up_p99 == one.wake_up_p99]
    return {
        **{name: round(count / time, 2) for name, count in counts.items()},
        "loop_command_ticks": float(sum(one.ticks for one in stretches)),
        "loop_missed_deadlines": float(sum(one.missed for one in stretches)),
        **({"loop_command_wake_up_p99_ms": round(max(wake_ups) * 1e3, 4)} if wake_ups else {}),
        "loop_episodes": float(len(stretches)),
        "loop_seconds": round(time, 2),
        "loop_realtime_factor": round(time / max(sum(one.wall for one in stretches), 1e-9), 4),
    }


def _busiest(topics: Sequence[Sequence[Published]]) -> int:
    """Return the messages of the joint group that has the most, over stretches that list the groups in one order."""
    counts = [[len(one.sent_ns) for one in groups] for groups in topics]
    return max((sum(of_group) for of_group in zip(*counts, strict=True)), default=0)
