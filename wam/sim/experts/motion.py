# SPDX-License-Identifier: Apache-2.0
"""Timed motions along a path of joint positions, within the robot file's limits (ruckig)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import ruckig
from scipy.interpolate import CubicSpline

from wam.core.safety.limits import JointLimits

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

SHARE = 0.8
"""Share of velocity, acceleration and jerk limits that a motion uses at most."""

SAMPLES = 200
STILL = 1e-6
"""A path on which no joint moves further takes no time [rad or m]."""

STRAIGHT = 1e-9
"""A path whose second derivative is below this share of the first bends nowhere."""


class TimedPath:
    """A path of joint positions that is run through from rest to rest, as fast as the limits allow.

    The path parameter s goes from 0 to 1; with q(s) the path, the bounds of its speed, acceleration and jerk keep
    |q' s_t|, |q' s_tt + q'' s_t^2| and |q' s_ttt + 3 q'' s_t s_tt + q''' s_t^3| within the limits at every sample of s.

    Args:
        rows: float64 [K, N], K of at least 2; the first is where the joints are.
        limits: of the N joints; their position-dependent velocity limits are kept as well.
        speed: 0..1, share of the full speed.

    Raises:
        ValueError: there is no path, or `speed` is out of range.
    """

    def __init__(self, rows: Rows, limits: JointLimits, *, speed: float = 1.0) -> None:
        if rows.ndim != 2 or len(rows) < 2:
            raise ValueError(f"a path needs at least two rows, got shape {rows.shape}")
        if not 0.0 < speed <= 1.0:
            raise ValueError(f"speed is {speed}, must be in 0..1")
        lengths = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(rows, axis=0)).max(axis=1))])
        self._end = rows[-1].copy()
        self._path: CubicSpline | None = None
        self.duration = 0.0
        if lengths[-1] < STILL:
            return
        keep = np.concatenate([[True], np.diff(lengths) > STILL / len(rows)])
        knots = lengths[keep] / lengths[-1]
        self._path = CubicSpline(knots, rows[keep], bc_type="natural")
        self._timing = self._timed(limits, speed)
        self.duration = float(self._timing.duration)

    @property
    def end(self) -> Vector:
        """Where it ends, float64 [N]."""
        end: Vector = self._end.copy()
        return end

    def at(self, time: float) -> tuple[Vector, Vector]:
        """Return positions and velocities `time` [s] after its start, float64 [N] each."""
        if self._path is None or time >= self.duration:
            return self.end, np.zeros_like(self._end)
        (s,), (s_t,), _ = self._timing.at_time(max(0.0, time))
        return self._path(s), self._path(s, 1) * s_t

    def _timed(self, limits: JointLimits, speed: float) -> ruckig.Trajectory:
        assert self._path is not None
        s = np.linspace(0.0, 1.0, SAMPLES)
        q, first, second, third = (
            np.abs(self._path(s, order)) if order else self._path(s) for order in range(4)
        )
        velocity = np.broadcast_to(limits.velocity, q.shape)
        if limits.velocity_envelope is not None:
            upper, lower = limits.velocity_envelope.bounds(q)
            velocity = np.minimum(velocity, np.maximum(np.minimum(upper, -lower), 1e-3 * limits.velocity))
        # Half of the acceleration for the bends of the path and half for changes of speed; thirds of the jerk.
        v_max = SHARE * speed * _least(velocity, first)
        v_max = min(v_max, np.sqrt(SHARE / 2 * _least(limits.acceleration, second)))
        v_max = min(v_max, np.cbrt(SHARE / 3 * _least(limits.jerk, third)))
        a_max = SHARE / 2 * _least(limits.acceleration, first)
        if second.max() < STRAIGHT * first.max():
            a_max *= 2
        a_max = min(a_max, SHARE / 9 * _least(limits.jerk, second) / v_max)
        j_max = SHARE / 3 * _least(limits.jerk, first)
        request = ruckig.InputParameter(1)
        request.current_position, request.target_position = [0.0], [1.0]
        request.max_velocity, request.max_acceleration, request.max_jerk = [v_max], [a_max], [j_max]
        result = ruckig.Trajectory(1)
        outcome = ruckig.Ruckig(1).calculate(request, result)
        if outcome != ruckig.Result.Working:
            raise ValueError(f"ruckig found no motion: {outcome.name}")
        return result


def _least(limits: Rows, slopes: Rows) -> float:
    """Return the least of limit over slope; infinite where nothing moves."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(slopes > 0.0, limits / slopes, np.inf)
    return float(ratio.min())
