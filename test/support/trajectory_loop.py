# SPDX-License-Identifier: Apache-2.0
"""The safety cycle before the twin of a trajectory controller and an arm that follows it, on injected time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wam.core.chunk import ActionChunk
from wam.core.trajectory.rolling import Rolling
from wam.core.trajectory.seam import Seam
from wam.devices.jtc import ControllerOptions, Trajectory, TrajectoryController, TrajectoryPoint
from wam.devices.loader import load_robot
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.filters import build_chain

MS = 1_000_000
PERIOD = 33_333_333
LATENCIES_MS = (2, 9, 4, 14, 1, 6)
"""From publishing to reception, in turn."""


class Loop:
    """An arm that follows the controller 20 ms late, an executor with a chunk every 100 ms, and their clock.

    Args:
        name: of the robot file.
        desired: the controller starts a trajectory at its last command.
        expected: the variation of the latencies is known.
        latencies_ms: from publishing to reception, in turn [ms].
        closed_loop: chunks begin where the arm is; otherwise they follow a sine of time.
        changes: to the settings of the cycle.
    """

    def __init__(
        self,
        name: str,
        *,
        desired: bool = True,
        expected: bool = True,
        latencies_ms: Sequence[int] = LATENCIES_MS,
        closed_loop: bool = False,
        **changes: Any,
    ) -> None:
        self.closed_loop = closed_loop
        self.latencies_ms = latencies_ms
        self.robot = load_robot(name)
        self.arm = self.robot.group("arm")
        self.count = len(self.arm.joints)
        self.home = np.array([joint.home for joint in self.robot.joints])
        self.settings = settings_for(self.robot, **changes)
        self.wall_ns = 0
        self.cycle = build_cycle(
            self.robot, self.settings, build_chain(self.robot, model=False), wall=lambda: self.wall_ns
        )
        self.rolling = Rolling(tick_ns=self.settings.tick_ns, lead_ns=self.settings.lead_ns)
        self.every = round(1e9 / self.settings.tick_ns / self.arm.command_rate)
        self.seam = Seam(
            lead_ns=self.settings.lead_ns,
            jitter_ns=(max(latencies_ms) - min(latencies_ms)) * MS if expected else 0,
            acceleration=np.array([joint.acceleration for joint in self.arm.joints]),
            period_ns=self.every * self.settings.tick_ns,
        )
        options = ControllerOptions(interpolate_from_desired_state=desired, trajectory_tolerance=0.2)
        self.controller = TrajectoryController(
            self.arm.driver_names, self.home[: self.count], options=options
        )
        self.now_ns = self.start_ns = 10**18
        self.sent: list[tuple[int, Trajectory]] = []
        self.reference: list[np.ndarray] = []
        self.sequence = 0
        self.braking = False
        self.jogged = np.zeros(self.count)
        """How far from where the controller leads it the arm is measured, float64 [N] [rad]."""

    def run(self, seconds: float, *, chunks_until: float = float("inf")) -> np.ndarray:
        """Return the commanded positions of the arm every millisecond, float64 [T, N]."""
        ticks = 0
        for ms in range(round(seconds * 1000)):
            self.now_ns, self.wall_ns = self.now_ns + MS, self.wall_ns + MS
            if ms % 100 == 0 and ms < 1000 * chunks_until:
                self._chunk()
            if ms % (self.settings.tick_ns // MS) == 0:
                self._tick(ticks)
                ticks += 1
            self._control()
        return np.array(self.reference)

    @property
    def measured(self) -> np.ndarray:
        late = self.reference[-20] if len(self.reference) >= 20 else self.home[: self.count]
        return np.concatenate([late + self.jogged, self.home[self.count :]])

    def _chunk(self) -> None:
        stamp = self.now_ns - 60 * MS
        t = (stamp - self.start_ns + np.arange(24) * PERIOD)[:, None] * 1e-9
        moves = np.arange(len(self.home)) < self.count
        rows = self.home + 0.3 * np.sin(2 * np.pi * 0.4 * t) * moves
        if self.closed_loop:
            seen = (self.now_ns - 20 * MS - self.start_ns) * 1e-9
            rows = rows + self.measured - self.home - 0.3 * np.sin(2 * np.pi * 0.4 * seen) * moves
        self.sequence += 1
        chunk = ActionChunk(
            sequence=self.sequence,
            stamp_ns=stamp,
            generation=1,
            contract_hash="a" * 64,
            row_period_ns=PERIOD,
            joint_names=self.robot.joint_names,
            rows=rows,
            context_version=1,
            context_age_ns=0,
            phase_offset_rows=3,
            inference_ns=0,
        )
        self.cycle.offer_chunk(chunk, arrival_ns=self.now_ns)

    def _tick(self, ticks: int) -> None:
        start = 0
        for group in self.robot.groups:
            stop = start + len(group.joints)
            self.cycle.offer_state(group.name, stamp_ns=self.now_ns, positions=self.measured[start:stop])
            start = stop
        result = self.cycle.step(self.now_ns)
        urgent = self.cycle.braking and not self.braking
        self.braking = self.cycle.braking
        if result.position is None or (ticks % self.every and not urgent):
            return
        plan = self.rolling.plan(self.cycle)
        self.seam.sent(self.now_ns)
        plan = self.seam.apply(plan, slice(0, self.count))
        points = [
            TrajectoryPoint(int(at), p[: self.count], v[: self.count], a[: self.count])
            for at, p, v, a in zip(
                plan.times_ns, plan.positions, plan.velocities, plan.accelerations, strict=True
            )
        ]
        latency = self.latencies_ms[len(self.sent) % len(self.latencies_ms)]
        self.sent.append((self.now_ns + latency * MS, Trajectory(self.arm.driver_names, points)))

    def _control(self) -> None:
        measured = self.measured[: self.count]
        for arrival, trajectory in self.sent:
            if arrival == self.now_ns:
                self.controller.accept(
                    trajectory, now_ns=self.now_ns, measured=measured, velocity=np.zeros(self.count)
                )
        self.reference.append(self.controller.advance(MS, measured))


def speeds(positions: np.ndarray) -> np.ndarray:
    """Return |velocity| of every joint from positions a millisecond apart, float64 [T-1, N] [rad/s]."""
    return np.abs(np.diff(positions, axis=0)) * 1000
