# SPDX-License-Identifier: Apache-2.0
"""What several metrics of a replay are computed from, each computed once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from wam.core.verdict import Ladder, Verdict
from wam.evaluation.metrics.chunks import ChunkScore, Table
from wam.evaluation.metrics.joints import JointNumbers, joint_numbers, seam_jumps
from wam.evaluation.metrics.shape import SwitchAgreement, recorded_span, switch_agreement
from wam.evaluation.replay.collect import Collector
from wam.evaluation.replay.data import ReplayData
from wam.evaluation.replay.safety_events import SafetySource
from wam.report.numbers import SampleSummary, distribution
from wam.report.statistics import Interval, bootstrap_mean
from wam.runtime.imagination import ImaginationError

AT_REST = 0.01
"""Share of its range that a joint must move in a recording for skill to be judged."""


COLLISION_CODES = ("collision", "workspace", "stop_zone")
"""Findings of the safety chain that say where the arm would have been, or with what it would have met."""


class ReplayBasis:
    """Subject of the metrics in `wam.evaluation.metrics.table`.

    Args:
        data: a finished replay.
    """

    def __init__(self, data: ReplayData) -> None:
        self.data = data

    @property
    def collector(self) -> Collector:
        """What was collected from the events."""
        return self.data.collector

    @property
    def scores(self) -> Sequence[ChunkScore]:
        """Errors of every chunk that could be compared."""
        return self.collector.errors.scores

    @property
    def imaginations(self) -> Sequence[ImaginationError]:
        """Imagined futures that could be compared with what came."""
        return self.collector.imaginations

    @cached_property
    def overlap_block(self) -> int:
        """How many consecutive chunks share rows with one another: the length of a bootstrap's blocks."""
        starts = np.array(self.collector.stamp_ns, dtype=np.int64)
        if len(starts) < 2:
            return 1
        contract = self.data.contract
        span = contract.chunk_rows * contract.control_period_ns
        steps = np.diff(starts)
        step = float(np.median(steps[steps > 0])) if (steps > 0).any() else float(span)
        return max(1, math.ceil(span / step))

    @cached_property
    def executed_error(self) -> Table:
        """Executed trajectory minus reference, float64 [T, N]; NaN where either is missing."""
        _, targets, truth = self.collector.trajectory()
        return targets - truth

    @cached_property
    def commanded_error(self) -> Table:
        """Commands of the safety cycle minus reference, float64 [T, N]; NaN where either is missing."""
        _, sent, wanted = self.collector.commanded()
        return sent - wanted

    @cached_property
    def joint_range(self) -> Table:
        """Upper minus lower limit of every joint of the action, float64 [N]."""
        return self.collector.errors.joint_range

    @cached_property
    def covered(self) -> npt.NDArray[np.bool_]:
        """Whether a chunk had a row, for every time of the executed trajectory, bool [T]."""
        _, targets, _ = self.collector.trajectory()
        return ~np.isnan(targets[:, 0]) if len(targets) else np.empty(0, dtype=np.bool_)

    @cached_property
    def jumps(self) -> Table:
        """Magnitudes of the jumps where chunks meet, float64 [S, N]."""
        return seam_jumps(self.data)

    @cached_property
    def largest_jumps(self) -> Table:
        """The largest joint's jump of every seam that has one, float64 [S]."""
        return _largest_of_rows(self.jumps)

    @cached_property
    def largest_jumps_normalised(self) -> Table:
        """The same with every joint divided by its range, float64 [S]."""
        return _largest_of_rows(self.jumps / self.joint_range)

    @cached_property
    def joints(self) -> dict[str, JointNumbers]:
        """Figures of every joint of the policy's action."""
        return joint_numbers(self.data, self.jumps)

    @cached_property
    def switching(self) -> SwitchAgreement:
        """Agreement about when grippers and fingers open and close, over the span that they were recorded in."""
        kinds = {joint.name: joint for joint in self.data.robot.joints}
        names = self.data.contract.action_joints
        grips = [i for i, name in enumerate(names) if kinds[name].is_gripper]
        joints = [kinds[names[i]] for i in grips]
        times, targets, truth = self.collector.trajectory()
        spans = [
            recorded_span(truth[:, i], joint.lower, joint.upper)
            for i, joint in zip(grips, joints, strict=True)
        ]
        lower, upper = np.array(spans).reshape(-1, 2).T
        return switch_agreement(times, targets[:, grips], truth[:, grips], lower=lower, upper=upper)

    @cached_property
    def moved(self) -> float:
        """Largest span of a joint in the reference, as a share of its range; NaN without a reference."""
        _, _, truth = self.collector.trajectory()
        known = truth[:, ~np.isnan(truth).all(axis=0)]
        if not known.size:
            return math.nan
        spans = (np.nanmax(truth, axis=0, initial=-np.inf) - np.nanmin(truth, axis=0, initial=np.inf)) / (
            self.joint_range
        )
        return float(spans[np.isfinite(spans)].max())

    @property
    def is_at_rest(self) -> bool:
        """Whether the robot hardly moved: any error is then large beside that of standing still."""
        return self.moved < AT_REST

    @property
    def is_judged(self) -> bool:
        """Whether a safety chain looked at the chunks."""
        return self.collector.safety.source is not SafetySource.NOBODY

    @property
    def has_limits(self) -> bool:
        """Whether the robot file states the limits of its joints, and not what a recording shows."""
        return not any(path.endswith((".lower", ".upper", ".velocity")) for path in self.data.robot.unstated)

    @property
    def judged_chunks(self) -> int:
        """Chunks to which the safety chain gave a verdict."""
        return sum(self.collector.safety.verdicts.values())

    @property
    def refused_chunks(self) -> int:
        """Chunks that the safety chain refused."""
        verdicts = self.collector.safety.verdicts
        return verdicts[Verdict.HOLD] + verdicts[Verdict.STOP]

    @property
    def collisions(self) -> float:
        """Chunks with a finding about collisions, workspace or zones; NaN where these are not checked."""
        safety = self.collector.safety
        found = sum(safety.codes[code] for code in COLLISION_CODES)
        return math.nan if safety.unchecked and not found else float(found)

    @cached_property
    def _distributions(self) -> dict[str, SampleSummary]:
        return {}

    def distribution(self, name: str, sample: npt.ArrayLike, scale: float = 1.0) -> SampleSummary:
        """Return the summary of a sample, computed at the first call for `name`."""
        if name not in self._distributions:
            self._distributions[name] = distribution(np.asarray(sample, dtype=np.float64) * scale)
        return self._distributions[name]

    def entries(self, rung: Ladder) -> int:
        """Return how often the degrade ladder went to a rung."""
        causes = self.collector.safety.causes
        return sum(count for (after, _), count in causes.items() if after is rung)

    def refusals(self, node: str) -> int:
        """Return how many cycles of a node gave nothing."""
        return sum(count for (who, _), count in self.collector.refusals.items() if who == node)

    def per_second(self, count: int) -> float:
        """Return a count per second of the recording; NaN for an empty one."""
        return count / self.data.duration if self.data.duration > 0 else math.nan

    def bootstrap(self, values: npt.ArrayLike) -> Interval:
        """Return the mean over chunks with its interval; consecutive chunks that share rows are kept together."""
        return bootstrap_mean(values, block=self.overlap_block)


def _largest_of_rows(table: Table) -> Table:
    """Return the largest known value of every row that has one, float64 [S]."""
    known = ~np.isnan(table).all(axis=1) if len(table) else np.empty(0, dtype=np.bool_)
    return np.nanmax(table[known], axis=1) if known.any() else np.empty(0)


def mean(values: npt.ArrayLike) -> float:
    """Return the mean of `values`, NaN left out; NaN for none."""
    return distribution(values).mean


def skill(error: float, baseline: float) -> float:
    """Return 1 - error / baseline: 1 is perfect, 0 no better than the baseline; NaN without a baseline."""
    return 1.0 - error / baseline if baseline > 0 else math.nan


def ratio(part: int, whole: int) -> float:
    """Return part / whole; NaN for an empty whole."""
    return part / whole if whole else math.nan
