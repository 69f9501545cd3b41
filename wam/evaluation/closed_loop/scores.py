# SPDX-License-Identifier: Apache-2.0
"""What closed-loop episodes leave for their report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder
from wam.evaluation.happened import MeasuredMotion, held_text, refused_text
from wam.evaluation.records import SafetyRecord

Values = npt.NDArray[np.float64]
NOTHING: Values = np.empty(0)


@dataclass(frozen=True, slots=True)
class EpisodeTimes:
    """How long the policy took in one episode, on the machine that ran it.

    Attributes:
        chunk_ms: float64 [K], routing and denoising of each chunk [ms].
        prefill_ms: float64 [M], each planner context [ms].
        context_age_ms: float64 [K], age of the context at each chunk [ms].
    """

    chunk_ms: Values = field(default_factory=lambda: NOTHING)
    prefill_ms: Values = field(default_factory=lambda: NOTHING)
    context_age_ms: Values = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One episode.

    Attributes:
        seed: of the world.
        variant: kind of the episode.
        instruction: task text.
        success: whether the last stage was reached.
        score: stages reached, 0 to 3.
        stages: those stages, with simulated time since the start [s].
        time: simulated time at the end [s].
        max_contact_force: largest normal force between the robot and anything else [N].
        error: why it was aborted, or "".
        times: of the policy.
        safety: events of the safety node; stamps count from the start [ns].
        held: why and for how long the safety node held the robot, cause -> time [s]; empty for the expert.
        accepted: chunks that the safety node took.
        refused: chunks that it refused.
        motion: the joint that moved most, as measured; None where nothing was measured.
        slow: how the machine was too slow, or "".
    """

    seed: int
    variant: str
    instruction: str
    success: bool
    score: int
    stages: tuple[tuple[str, float], ...]
    time: float
    max_contact_force: float
    error: str = ""
    times: EpisodeTimes = field(default_factory=EpisodeTimes)
    safety: tuple[SafetyRecord, ...] = ()
    held: Mapping[str, float] = field(default_factory=dict)
    accepted: int = 0
    refused: int = 0
    motion: MeasuredMotion | None = None
    slow: str = ""

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Orders episodes from the worst to the best: success, score, then the quicker one."""
        return (self.success, self.score, -self.time)

    @property
    def held_share(self) -> float:
        """Share of the episode in which the safety node held the robot, 0..1; NaN where there was no safety node."""
        # One that runs holds at least until the first chunk.
        return min(1.0, sum(self.held.values()) / self.time) if self.held else math.nan

    @property
    def held_causes(self) -> dict[str, float]:
        """Cause -> share of the episode for which it held the robot, 0..1, the largest first."""
        return {cause: held / self.time for cause, held in self.held.items()} if self.time > 0.0 else {}

    @property
    def happened(self) -> tuple[str, ...]:
        """What the robot and its safety node did, a clause each: moved, held, refused; and a machine too slow."""
        told = (
            "" if self.motion is None else self.motion.text,
            held_text(self.held_share, self.held_causes),
            refused_text(self.refused, self.accepted + self.refused),
            self.slow,
        )
        return tuple(one for one in told if one)

    def line(self, count: int, episodes: int) -> str:
        """Return one line about the episode, the `count`-th of `episodes` that have ended."""
        outcome = "error" if self.error else "success" if self.success else "no success"
        told = "".join(f"; {one}" for one in self.happened)
        return (
            f"[{count}/{episodes}] seed {self.seed}: {outcome}, score {self.score}, {self.time:.1f} s{told}"
        )

    @property
    def moving(self) -> tuple[SafetyRecord, ...]:
        """Events of the safety node once the robot followed the policy; before that it holds."""
        for i, event in enumerate(self.safety):
            if Ladder.NOMINAL in (event.ladder_from, event.ladder_to):
                return self.safety[i + (event.ladder_from is not Ladder.NOMINAL) :]
        return self.safety

    @property
    def worst_rung(self) -> Ladder:
        """The highest rung of the degrade ladder since the robot first followed the policy."""
        return max((event.ladder_to for event in self.moving), default=Ladder.NOMINAL)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that an evaluation's report shows.

    Attributes:
        task: name of the task.
        title: of the task, for people.
        stage_names: its stages, in order.
        setting: what it was set under.
        robot: name of the robot file.
        policy: as the user gave it.
        contract_hash: SHA-256 (hex) of the policy; "" for the expert.
        mode: "nodes", "fast".
        episodes: in order.
        videos: caption -> MP4, the worst first.
        warnings: one sentence each, for the user.
        settings: further facts worth showing, name -> text.
        backends: stage of the policy -> what ran it; empty for the expert.
        machine: facts of the machine.
        wall: time that all episodes took [s].
    """

    task: str
    title: str
    stage_names: tuple[str, ...]
    setting: str
    robot: str
    policy: str
    contract_hash: str
    mode: str
    episodes: tuple[EpisodeRecord, ...]
    videos: Mapping[str, bytes] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str | int | float] = field(default_factory=dict)
    wall: float = math.nan

    def all_times(self, name: str) -> Values:
        """Return one quantity of `EpisodeTimes` over all episodes, float64 [n]."""
        return np.concatenate([NOTHING, *(getattr(one.times, name) for one in self.episodes)])


def seconds(stamp_ns: int) -> float:
    """Return a stamp that counts from the start of its episode, in seconds."""
    return stamp_ns / NS_PER_S
