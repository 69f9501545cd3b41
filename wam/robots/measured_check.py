# SPDX-License-Identifier: Apache-2.0
"""Check of where the arm is, beside the checks of where it is told to be: it lags, sags, and is pushed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wam.core.observation import Vector
from wam.core.verdict import Finding, Verdict
from wam.robots.collision import PinocchioChecker
from wam.robots.tool_points import ToolPoints
from wam.robots.zones import Box, Zone, in_base

Rows = npt.NDArray[np.float64]

CONTACT_DEPTH = 0.002
"""Bodies that are this much deeper inside each other than any command put them are in contact [m]."""

OUTSIDE = 0.01
"""A point may be this much further outside its workspace, or inside a zone, than any command put it [m]."""

LOOKS = 2
"""A finding holds once so many looks in a row have had it: one may come from a single faulty message."""


class MeasuredCheck:
    """Tells whether the measured arm touches something or is where it must not be, beyond what was commanded.

    Not for the command thread: one look takes a few tenths of a millisecond, some milliseconds in contact. One thread,
    with a checker of its own.

    Args:
        checker: bodies of the robot; None looks for no contact.
        points: points of the robot.
        boxes: workspaces.
        zones: zones; those with a speed are left alone.
        looks: looks in a row that must have a finding.
    """

    def __init__(
        self,
        checker: PinocchioChecker | None,
        points: ToolPoints,
        *,
        boxes: tuple[Box, ...] = (),
        zones: tuple[Zone, ...] = (),
        looks: int = LOOKS,
    ) -> None:
        self._checker = checker
        self._points = points
        self._boxes = boxes
        self._zones = tuple(zone for zone in zones if zone.speed == 0.0)
        self._looks = looks
        self._count = 0

    def look(self, measured: Vector, commanded: Rows) -> Finding | None:
        """Return what is wrong with the measured arm, verdict STOP, or None.

        Args:
            measured: float64 [N], newest measured positions of all joints, finite.
            commanded: float64 [C, N], C > 0, what was commanded lately: the arm follows with a lag, and what any of
                these allows is allowed.
        """
        found = self._contact(measured, commanded) or self._workspace(measured, commanded)
        found = found or self._zone(measured, commanded)
        self._count = 0 if found is None else self._count + 1
        return found if self._count >= self._looks else None

    def _contact(self, measured: Vector, commanded: Rows) -> Finding | None:
        if self._checker is None:
            return None
        sweep = self._checker.sweep
        distances = sweep.distances(measured)
        close = np.flatnonzero(~(distances >= -CONTACT_DEPTH))
        if not len(close):
            return None
        numbers = close.tolist()
        allowed = np.min([sweep.distances(one, numbers) for one in commanded], axis=0)
        deeper = np.minimum(allowed, 0.0) - distances[close]
        worst = int(np.argmax(deeper))
        if deeper[worst] <= CONTACT_DEPTH:
            return None
        first, second = self._checker.pairs[numbers[worst]].names
        depth, limit = float(-distances[numbers[worst]]), float(max(-allowed[worst], 0.0) + CONTACT_DEPTH)
        text = (
            f"{first} and {second} touch where the arm is measured, {depth * 1e3:.1f} mm deep, allowed "
            f"{limit * 1e3:.1f} mm; they do not where it was commanded: the arm lags, sags or is pushed"
        )
        return Finding(Verdict.STOP, "measured_contact", text, f"{first}/{second}", depth, limit)

    def _workspace(self, measured: Vector, commanded: Rows) -> Finding | None:
        rows = np.concatenate((commanded, measured[None]))
        for box in self._boxes:
            at = in_base(self._points, box, self._points.places(rows, (box.point,))[0])
            beyond = np.maximum(box.lower - at, at - box.upper).max(axis=1)
            found = _further("measured_workspace", beyond, box.point.name, "outside its workspace")
            if found is not None:
                return found
        return None

    def _zone(self, measured: Vector, commanded: Rows) -> Finding | None:
        rows = np.concatenate((commanded, measured[None]))
        for zone in self._zones:
            depth = zone.depth(self._points.places(rows, zone.points))
            for point, one in zip(zone.points, depth, strict=True):
                found = _further("measured_zone", one, point.name, "inside a stop zone")
                if found is not None:
                    return found
        return None


def _further(code: str, by: Vector, point: str, what: str) -> Finding | None:
    """Return the finding of a point that is `by`, float64 [C + 1], too far: where it was commanded, then measured."""
    here, limit = float(by[-1]), max(float(by[:-1].max()), 0.0) + OUTSIDE
    if here <= limit:
        return None
    text = (
        f"{point} is measured {here * 1e3:.0f} mm {what}, allowed {limit * 1e3:.0f} mm; "
        "it was not commanded there: the arm lags, sags or is pushed"
    )
    return Finding(Verdict.STOP, code, text, point, here, limit)
