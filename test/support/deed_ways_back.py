# SPDX-License-Identifier: Apache-2.0
"""Judges ways back: on the path on which the arm came, at a quarter of its speed, out of what it touches."""

from __future__ import annotations

import numpy as np
from deed_found import REDUCED, Fault, Found, Rows, tools_of
from deeds import Record
from motion import target

from wam.bench.attack.contacts import geometry_of

ON_PATH = 2e-3
"""Distance from the path on which the arm came [rad]."""
NEAR_START = 0.04
"""The first 20 mrad of a way back, and one step, may be cut short [rad]."""
BACK_SHARE = 0.25
AT_A_TURN = 1.35
"""Where an earlier way back ended the path turns round with a jump of its speed, which a spline overshoots."""
NOISE = 5e-5
"""Two distances inside each other are computed no better [m]."""


def _spans(record: Record) -> list[tuple[int, int]]:
    """Return first and last tick of each request to go back that was not answered at once."""
    spans, first = [], None
    for number, tick in enumerate(record.ticks):
        if tick.pending and first is None:
            first = number
        elif first is not None and not tick.pending:
            spans.append((first, number))
            first = None
    return spans


def ways_back(record: Record, found: Found) -> None:
    """Judge every way back of a run."""
    spans = dict(_spans(record))
    trail: list[Rows] = []
    turns: list[int] = []
    number = 0
    while number < len(record.ticks):
        command = record.ticks[number].command
        if number in spans and command is not None and trail:
            last = spans[number]
            rows = [one.command for one in record.ticks[number : last + 1] if one.command is not None]
            back = np.array([trail[-1], *rows])
            back = back[np.concatenate(([True], np.abs(np.diff(back, axis=0)).max(axis=1) > 0.0))]
            if len(back) > 1:
                found.retreats += 1
                left = _way_back(record, found, np.array(trail), back, number, turns)
                trail = [*trail[:left], back[-1]]
                turns = [*(turn for turn in turns if turn < left), left]
            number = last + 1
            continue
        if command is None:
            trail, turns = [], []
        elif not trail or np.abs(command - trail[-1]).max() > 1e-9:
            trail.append(command)
        number += 1


def _way_back(record: Record, found: Found, trail: Rows, back: Rows, number: int, turns: list[int]) -> int:
    """Judge one way back; return how many commands of the trail are left."""
    case, arm = record.case, target(record.case.robot).arm
    stays = float(np.abs(back[:, ~arm] - back[0, ~arm]).max(initial=0.0))
    if stays > 1e-9:
        found.faults.append(Fault("fingers_moved", number, stays))
    fastest = tools_of(case.robot).fastest(back, np.arange(len(back)) * round(record.tick_s * 1e9))
    found.worst_tool = max(found.worst_tool, fastest / REDUCED)
    if fastest > REDUCED * 1.001:
        found.faults.append(Fault("fast_way_back", number, fastest))
    _separates(record, found, back, number)
    came, gone = trail[:, arm], back[:, arm]
    steps = np.abs(np.diff(came, axis=0)).max(axis=1)
    at, joined = len(came) - 2, False
    for row in range(1, len(gone)):
        if at < 0:
            break
        if np.abs(gone[row] - gone[0]).max() <= NEAR_START and not joined:
            continue
        window = 12 if joined else len(came)
        first = max(0, at - window)
        away = _distances(came[first : at + 2], gone[row])
        near = np.flatnonzero(away <= ON_PATH)
        if not len(near):
            found.faults.append(
                Fault("off_the_path", number + row, float(away.min()), f"row {row} of {len(gone)}")
            )
            break
        at = first + (int(away.argmin()) if joined else int(near[-1]))
        joined = True
        step = float(np.abs(gone[row] - gone[row - 1]).max())
        allowed = BACK_SHARE * float(steps[max(0, at - 4) : at + 5].max())
        room = AT_A_TURN if any(abs(turn - at) < 8 for turn in turns) else 1.05
        if step > room * allowed + 1e-6:
            found.faults.append(Fault("faster_than_a_quarter", number + row, step / allowed))
            break
    if joined:
        return at + 1
    inside = np.abs(came - gone[-1]).max(axis=1)
    return int(inside[-400:].argmin()) + max(0, len(came) - 400) + 1


def _distances(path: Rows, place: Rows) -> Rows:
    """Return the distance, largest of any joint, of a place from every part of a path of straight lines."""
    first, way = path[:-1], np.diff(path, axis=0)
    along = ((place - first) * way).sum(axis=1) / np.maximum((way * way).sum(axis=1), 1e-18)
    nearest = first + np.clip(along, 0.0, 1.0)[:, None] * way
    return np.asarray(np.abs(place - nearest).max(axis=1))


def _separates(record: Record, found: Found, back: Rows, number: int) -> None:
    """Bodies within their margin come only apart."""
    geometry = geometry_of(target(record.case.robot))
    margins = np.array([margin for _, _, margin in geometry.pairs])
    near = np.flatnonzero(geometry.distances(back[0]) < margins).tolist()
    if not near:
        return
    found.in_contact += 1
    best = geometry.distances(back[0], near)
    for row in range(1, len(back), 4):
        here = geometry.distances(back[row], near)
        closer = np.minimum(best, margins[near]) - here
        if closer.max() > NOISE:
            pair = geometry.pairs[near[int(closer.argmax())]]
            found.faults.append(
                Fault("closer_on_way_back", number + row, float(closer.max()), "/".join(pair[:2]))
            )
            return
        best = np.maximum(best, here)
