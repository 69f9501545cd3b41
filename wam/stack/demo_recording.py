# SPDX-License-Identifier: Apache-2.0
"""What a demo leaves for its report: its episode, and the signals of its robot and its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder
from wam.evaluation.closed_loop.scores import EpisodeRecord, Evaluation
from wam.evaluation.records import ChunkRecord, ContextRecord, TopicSeries
from wam.report.imagined import ImaginedRecord
from wam.sim.tasks.free import FREE


@dataclass(frozen=True, slots=True)
class DemoSignals:
    """What the robot and its nodes published during an episode; stamps are on the clock of the simulation.

    Attributes:
        start_ns: begin of the episode [ns].
        end_ns: its end [ns].
        measured: joint state, one series per joint group.
        commanded: what the safety node sent, one series per joint group.
        chunks: chunks in order of arrival.
        contexts: planner contexts in order of arrival.
        imagined: what the policy expected its cameras to see, in order of time; a few per camera are enough.
        units: joint -> unit of its position: rad, m or 1.
    """

    start_ns: int
    end_ns: int
    measured: tuple[TopicSeries, ...]
    commanded: tuple[TopicSeries, ...]
    chunks: tuple[ChunkRecord, ...]
    contexts: tuple[ContextRecord, ...]
    imagined: tuple[ImaginedRecord, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DemoRecording:
    """Everything that `build_demo_report` shows.

    Attributes:
        robot_title: name of the robot for people.
        evaluation: the one episode, with its film.
        signals: what was published during it.
        trained: whether the policy was trained for this task.
        notes: a sentence for each thing worth knowing beside the result, e.g. that the weights are random.
        problems: a sentence for each thing that went wrong (a node died, a message could not be read).
        stopped: whether it was interrupted from outside (Ctrl-C) before its end.
    """

    robot_title: str
    evaluation: Evaluation
    signals: DemoSignals
    trained: bool
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    stopped: bool = False

    @property
    def episode(self) -> EpisodeRecord:
        """The episode."""
        return self.evaluation.episodes[0]

    @property
    def held_causes(self) -> dict[str, float]:
        """Cause -> share of the episode for which it held the robot, 0..1, the largest first."""
        return self.episode.held_causes

    @property
    def stood_still(self) -> bool:
        """Whether the robot was measured and did not move."""
        motion = self.episode.motion
        return motion is not None and bool(motion.joint) and not motion.moved

    @property
    def is_well(self) -> bool:
        """Whether nothing went wrong and the task is done; a policy not trained for it has only to move the robot."""
        done = self.episode.success or not (self.trained or self.stood_still)
        return not self.problems and done

    @property
    def headline(self) -> str:
        """One sentence: whether the task is done, how far it came, and whether the robot moved, was held, and why."""
        return "; ".join([self.outcome, *self.episode.happened, *self.notes[:1]])

    @property
    def outcome(self) -> str:
        """The first part of the headline: whether the task is done, and if not, how far it came."""
        return "; ".join(self._outcome())

    def _outcome(self) -> list[str]:
        run, episode = self.evaluation, self.episode
        parts = []
        if run.task == FREE:
            parts.append(f"there is no task: the policy ran for {episode.time:.1f} s")
        elif episode.success:
            parts.append(f"done: {run.title}, in {episode.time:.1f} s")
        else:
            words = [name.replace("_", " ") for name in run.stage_names]
            came = f"{words[episode.score - 1]}, but " if episode.score else ""
            parts.append(f"not done: {came}never {words[episode.score]}, in {episode.time:.1f} s")
        if episode.worst_rung is Ladder.STOP:
            at = next(event.stamp_ns for event in episode.safety if event.ladder_to is Ladder.STOP)
            parts.append(f"the safety node stopped the robot at {at / NS_PER_S:.1f} s")
        if self.stopped:
            parts.insert(0, f"stopped after {episode.time:.1f} s")
        return parts
