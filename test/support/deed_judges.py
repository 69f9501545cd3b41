# SPDX-License-Identifier: Apache-2.0
"""What a sequence of deeds (`deeds`) must not lead to: own differences, poses, distances and rules of who may move.

Shares no code with the safety chain. What the suite says of itself is used twice: a cause called `aligning` lets the
command creep to the arm, and causes called `measured_...` must not be there while sensors tell the truth.
"""

from __future__ import annotations

import numpy as np
from deed_found import REDUCED, Fault, Found, Rows, tools_of
from deed_ways_back import ways_back
from deeds import EFFORT, FAR, LEAST, NEAR, TORQUE, Deed, Record
from motion import target

from wam.bench.attack.contacts import geometry_of
from wam.bench.attack.judge import StreamJudge
from wam.core.verdict import Ladder

AWAY_S = 0.52
"""A driver that was silent for longer was away: another go is needed [s]."""
STILL_TICKS = 5
TOOL_ROOM = 1.002
"""A speed between two commands is not that at their places: so much may a limit of tool speed be exceeded."""
EFFORT_TICKS = 4
"""Values above a limit in a row, 10 ms apart, after which the arm must be held."""
SLOW_S = 0.4
"""An arm that comes near something has to be slow after so long [s]."""


def judge(record: Record) -> Found:
    """Return what came of a run."""
    found = Found([Fault("failure", 0, 1.0, text) for text in record.failures])
    if len(record.answers) != record.requests:
        found.faults.append(Fault("unanswered", len(record.ticks), record.requests - len(record.answers)))
    _limits(record, found)
    _latched(record, found)
    firing = _efforts(record, found)
    _go(record, found, firing)
    ways_back(record, found)
    _contacts(record, found)
    _tool_speed(record, found)
    if record.case.approach:
        _approach(record, found)
    if record.box is not None:
        _workspace(record, found)
    _measured(record, found)
    found.faults.sort(key=lambda one: one.tick)
    return found


def _limits(record: Record, found: Found) -> None:
    stream = StreamJudge(target(record.case.robot).judged, period=record.tick_s)
    unheard, before, numbers = 0, False, []
    for number, tick in enumerate(record.ticks):
        unheard = 0 if tick.heard else unheard + 1
        if unheard * record.tick_s >= 0.5:
            stream.away()
        if tick.command is None:
            stream.silence()
        else:
            numbers.append(number)
            stopped = tick.rung is Ladder.STOP and not (tick.pending or before)
            stream.command(tick.command, measured=tick.measured, stopped=stopped)
        before = tick.pending
    for one in stream.violations:
        at = numbers[min(one.tick, len(numbers) - 1)]
        found.faults.append(Fault(one.kind, at, one.share, one.joint))


def _latched(record: Record, found: Found) -> None:
    """STOP is left only by a clear, and not while the arm goes back."""
    for number in range(1, len(record.ticks)):
        before, tick = record.ticks[number - 1], record.ticks[number]
        left = before.rung is Ladder.STOP and tick.rung is not Ladder.STOP
        if left and (Deed.CLEAR not in tick.asked or tick.pending):
            found.faults.append(Fault("stop_left", number, 1.0, tick.code))


def _efforts(record: Record, found: Found) -> set[int]:
    """Return the ticks at which a joint has pushed too hard for long enough; the arm must be held then."""
    firing: set[int] = set()
    for values, limits in (
        ([tick.effort for tick in record.ticks], EFFORT),
        ([tick.torque for tick in record.ticks], TORQUE),
    ):
        for limit, least in ((limits.hold, Ladder.HOLD), (limits.stop, Ladder.STOP)):
            raised, count = limit, 0
            for number, (tick, value) in enumerate(zip(record.ticks, values, strict=True)):
                if value <= limit:
                    raised = limit
                if value > limit and {Deed.CLEAR, Deed.RESUME} & set(tick.asked):
                    raised, count = max(limit, 1.1 * value), 0
                count = count + 1 if value > raised and tick.heard else 0
                if count < EFFORT_TICKS:
                    continue
                firing.add(number)
                found.pushes += count == EFFORT_TICKS
                if tick.rung < least:
                    found.faults.append(
                        Fault("pushes_on", number, value / raised, f"{tick.rung.name} {tick.code}")
                    )
                    break
    return firing


def _go(record: Record, found: Found, firing: set[int]) -> None:
    """Nothing moves without a go after a STOP, a driver that was away, a push, or a way back; and it rests in time."""
    judged = target(record.case.robot).judged
    rest_s = 2.0 * float((judged.velocity / judged.acceleration + judged.acceleration / judged.jerk).max())
    go, unheard, since, still = record.case.by_itself, 0, 0, 0
    for number in range(1, len(record.ticks)):
        before, tick = record.ticks[number - 1], record.ticks[number]
        unheard = 0 if tick.heard else unheard + 1
        busy = before.pending or tick.pending
        if Deed.RESUME in tick.asked and before.rung is not Ladder.STOP and not before.pending:
            go = True
        if tick.rung is Ladder.STOP or busy or number in firing or unheard * record.tick_s > AWAY_S:
            go = False
        elif record.case.by_itself:
            go = True
        moves = 0.0
        if before.command is not None and tick.command is not None:
            moves = float(np.abs(tick.command - before.command).max())
        if go or busy or tick.code == "aligning" or before.code == "aligning" or tick.command is None:
            since, still = number, 0
            if tick.code == "aligning" and not busy and moves > 0.0:
                assert before.command is not None
                share = np.abs(tick.command - before.command) / (judged.velocity * record.tick_s)
                if share.max() > 0.105:
                    found.faults.append(Fault("fast_alignment", number, float(share.max())))
            continue
        still = still + 1 if moves <= 1e-9 else 0
        late = moves > 1e-6 and (number - since) * record.tick_s > rest_s
        last = [
            one
            for one in record.ticks[max(since, number - STILL_TICKS - 1) : number]
            if one.command is not None
        ]
        rested = len(last) > STILL_TICKS and all(np.array_equal(one.command, last[0].command) for one in last)
        if late or (moves > 1e-9 and rested):
            text = f"{tick.rung.name} {tick.code}"
            found.faults.append(Fault("moves_without_go" if rested else "late_rest", number, moves, text))
            return


def _parts(record: Record, first: int = 0) -> list[tuple[int, Rows]]:
    """Return the streams of a run and the tick at which each begins, from tick `first` on."""
    parts: list[tuple[int, list[Rows]]] = []
    silent = True
    for number, tick in enumerate(record.ticks[first:], start=first):
        if tick.command is not None:
            if silent:
                parts.append((number, []))
            parts[-1][1].append(tick.command)
        silent = tick.command is None
    return [(begin, np.array(rows)) for begin, rows in parts]


def _contacts(record: Record, found: Found) -> None:
    geometry = geometry_of(target(record.case.robot))
    for begin, rows in _parts(record, record.known_from):
        depth = geometry.deepest(rows)
        if depth is not None:
            text = f"{depth.first}/{depth.second} {depth.distance * 1e3:.2f} mm apart"
            found.faults.append(Fault("contact", begin + depth.row, depth.depth, text))


def _tool_speed(record: Record, found: Found) -> None:
    case = record.case
    limit = min(case.max_speed or np.inf, REDUCED if case.reduced else np.inf)
    if not np.isfinite(limit):
        return
    for begin, rows in _parts(record):
        speeds = (
            tools_of(case.robot).speeds(rows, np.arange(len(rows)) * round(record.tick_s * 1e9)).max(axis=0)
        )
        if not len(speeds):
            continue
        worst = float(speeds.max())
        found.worst_tool = max(found.worst_tool, worst / limit)
        if worst > TOOL_ROOM * limit:
            found.faults.append(
                Fault("tool_speed", begin + int(speeds.argmax()) + 1, worst / limit, f"{limit:.3f} m/s")
            )


def foreign(robot: str) -> list[int]:
    """Return the pairs of an arm and what is not part of it: the table, or the other arm."""
    pairs = geometry_of(target(robot)).pairs
    return [
        number
        for number, (one, other, _) in enumerate(pairs)
        if "table" in (one, other) or {one[:5], other[:5]} == {"left_", "right"}
    ]


def _approach(record: Record, found: Found) -> None:
    """Near something every joint has at most the share of its speed that the distance leaves."""
    judged, pairs = target(record.case.robot).judged, foreign(record.case.robot)
    geometry = geometry_of(target(record.case.robot))
    above = 0
    for number in range(1, len(record.ticks), 2):
        before, tick = record.ticks[number - 1], record.ticks[number]
        if before.command is None or tick.command is None:
            continue
        share = float((np.abs(tick.command - before.command) / (judged.velocity * record.tick_s)).max())
        if share <= LEAST or before.pending or tick.pending:
            above = 0
            continue
        distance = float(geometry.distances(tick.command, pairs).min())
        allowed = LEAST + (1.0 - LEAST) * min(max((distance - NEAR) / (FAR - NEAR), 0.0), 1.0)
        found.near += allowed < 1.0
        found.worst_near = max(found.worst_near, share / allowed)
        above = above + 2 if share > 1.02 * allowed else 0
        if above * record.tick_s > SLOW_S:
            found.faults.append(
                Fault("fast_near_obstacle", number, share / allowed, f"{distance * 1e3:.0f} mm")
            )
            return


def _workspace(record: Record, found: Found) -> None:
    assert record.box is not None
    tools = tools_of(record.case.robot)
    base = tools.base
    for begin, rows in _parts(record):
        at = (tools.places(rows)[0] - base.translation) @ base.rotation
        outside = np.maximum(record.box[0] - at, at - record.box[1]).max(axis=1)
        beyond = outside - max(0.0, float(outside[0]))
        if beyond.max() > 1e-4:
            found.faults.append(Fault("outside_workspace", begin + int(beyond.argmax()), float(beyond.max())))


def _measured(record: Record, found: Found) -> None:
    """Sensors that tell the truth show nothing; an arm that is 3 mm deeper in something for four looks is stopped."""
    geometry = geometry_of(target(record.case.robot))
    told, looks = -1000, 0
    for number, tick in enumerate(record.ticks):
        told = number if not tick.true_sense else told
        found.measured += tick.code.startswith("measured_")
        new = number > 0 and not record.ticks[number - 1].code.startswith("measured_")
        if (
            new
            and tick.code.startswith("measured_")
            and number - told > 100
            and number > record.known_from + 100
        ):
            found.faults.append(Fault("measured_for_nothing", number, 1.0, tick.code))
        if number % 10 or number < record.known_from:
            continue
        deeper = 0.0
        if not tick.true_sense and tick.heard and tick.command is not None:
            distances = geometry.distances(tick.measured)
            deep = np.flatnonzero(distances < -0.003).tolist()
            if deep:
                lately = record.ticks[max(0, number - 30) : number + 1 : 5]
                allowed = np.min(
                    [geometry.distances(one.command, deep) for one in lately if one.command is not None],
                    axis=0,
                )
                deeper = float((np.minimum(allowed, 0.0) - distances[deep]).max())
        looks = looks + 1 if deeper > 0.003 else 0
        if looks >= 4 and tick.rung is not Ladder.STOP:
            found.faults.append(
                Fault("measured_contact_missed", number, deeper, f"{tick.rung.name} {tick.code}")
            )
            return
