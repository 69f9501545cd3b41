# SPDX-License-Identifier: Apache-2.0
"""What the safety chain would have said to every chunk, had it come at its time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from wam.core.safety.chain import SafetyChain
from wam.core.safety.filters import Stage
from wam.core.trajectory.motion import Motion
from wam.core.verdict import Finding, Verdict
from wam.replay.offline import ChunkEvent
from wam.robots.description import RobotDescription
from wam_safety_node.build import filters_for


@dataclass(frozen=True, slots=True)
class ChunkVerdict:
    """The chain's opinion of one chunk.

    Attributes:
        verdict: the most severe.
        finding: the most severe finding, or None where the chain was content.
    """

    verdict: Verdict
    finding: Finding | None


class ChunkJudge:
    """Runs the safety node's chain of joint filters over chunks, with the recorded robot as the measured one.

    The recorded robot does not follow the chunks, so a policy that would have gone elsewhere is judged by its first
    rows: whether they could have been followed from where the robot was.

    Args:
        robot: limits and budgets; rows due earlier than its lead after a chunk is out are not judged.
    """

    def __init__(self, robot: RobotDescription) -> None:
        self._names = robot.joint_names
        self._lead_ns = robot.safety.lead_ns
        self._chain = SafetyChain(filters_for(robot))
        self.verdicts: Counter[Verdict] = Counter()
        self.codes: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def judge(self, event: ChunkEvent) -> ChunkVerdict:
        """Return what the chain says to a chunk that comes out at `event.ready_ns`."""
        chunk = event.chunk
        measured = event.observation.state.select(self._names).positions
        rows = np.repeat(measured[None, :], len(chunk.rows), axis=0)
        rows[:, [self._names.index(name) for name in chunk.joint_names]] = chunk.rows
        late_ns = event.ready_ns + self._lead_ns - chunk.stamp_ns
        passed = min(len(rows) - 1, max(0, -(-late_ns // chunk.row_period_ns)))
        motion = Motion(chunk.stamp_ns, chunk.row_period_ns, rows, settled=passed)
        judged = self._chain.run(motion, stage=Stage.CHUNK, measured=measured)
        self.verdicts[judged.verdict] += 1
        for finding in judged.findings:
            self.codes[finding.code] += 1
            self.examples.setdefault(finding.code, finding.text)
        worst = max(judged.findings, key=lambda finding: finding.verdict, default=None)
        return ChunkVerdict(judged.verdict, worst)
