# SPDX-License-Identifier: Apache-2.0
"""Chunks, stops, clears, goes, ways back, pushes and faulty sensors in any order: nothing that must not be comes of it.

Sequences are those of `deeds`, a case per seed; they are judged by `deed_judges`, which shares no code with the chain.
More of them: `python test/support/deed_campaign.py --count 300`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("pinocchio", reason="pin is not installed (make setup)")

from deed_found import Found
from deed_judges import foreign, judge
from deed_play import Play
from deed_ways_back import ways_back
from deeds import Record, Tick, draw
from measured_looks import ROBOTS, look
from motion import target

from wam.bench.attack.contacts import geometry_of
from wam.core.errors import ConfigError
from wam.core.verdict import Ladder
from wam.robots.loads import MAX_MASS, read_payload
from wam.robots.yaml_reader import Value

FILE = Path("robot.yaml")
SEEDS = {"piper": (9, 16), "franka": (7, 31), "ur5e_inspire": (4, 13)}
"""Some with several ways back, in contact and out of it, with pushes, and near the table."""


@functools.cache
def played(robot: str, seed: int) -> Record:
    return Play(draw(robot, seed)).run()


@functools.cache
def judged(robot: str, seed: int) -> Found:
    return judge(played(robot, seed))


@pytest.mark.parametrize(
    ("robot", "seed"), [(robot, seed) for robot, seeds in SEEDS.items() for seed in seeds]
)
def test_no_sequence_of_deeds_leads_to_what_must_not_be(robot: str, seed: int) -> None:
    assert judged(robot, seed).faults == []


def test_the_sequences_do_what_they_are_there_for() -> None:
    """Ways back that were never taken, or joints that never pushed, would show nothing."""
    found = [judged(robot, seed) for robot, seeds in SEEDS.items() for seed in seeds]
    assert sum(one.retreats for one in found) >= 9
    assert sum(one.in_contact for one in found) >= 2
    assert sum(one.pushes for one in found) >= 6
    assert sum(one.near for one in found) >= 10


def copy_of(record: Record) -> Record:
    ticks = [
        replace(tick, command=None if tick.command is None else tick.command.copy()) for tick in record.ticks
    ]
    return replace(record, ticks=ticks, answers=list(record.answers), box=None)


def way_back(record: Record) -> list[Tick]:
    """Return the ticks of the longest way back."""
    spans: list[list[Tick]] = [[]]
    for tick in record.ticks:
        if tick.pending:
            spans[-1].append(tick)
        elif spans[-1]:
            spans.append([])

    def way(span: list[Tick]) -> float:
        rows = np.array([tick.command for tick in span])
        return float(np.ptp(rows, axis=0).max()) if len(rows) else 0.0

    return max(spans, key=way)


def lowered(distance: float) -> np.ndarray:
    """Return a Piper whose left arm has this distance to the table, by its second joint."""
    aim = target("piper")
    low, high = 0.0, 1.2
    for _ in range(40):
        middle = 0.5 * (low + high)
        state = aim.home + middle * (np.arange(14) == 1)
        near = distances(state).min()
        low, high = (middle, high) if near > distance else (low, middle)
    return np.asarray(aim.home + low * (np.arange(14) == 1))


def distances(state: np.ndarray) -> np.ndarray:
    return geometry_of(target("piper")).distances(state)[foreign("piper")]


def creep_under_stop(record: Record) -> None:
    for number, tick in enumerate(record.ticks[-100:]):
        assert tick.command is not None
        tick.command[0] += 1e-4 * number


def leave_a_stop(record: Record) -> None:
    for tick in record.ticks[-50:]:
        tick.rung = Ladder.HOLD


def bend_the_way_back(record: Record) -> None:
    span = way_back(record)
    for number, tick in enumerate(span):
        assert tick.command is not None
        tick.command[2] += 0.08 * np.sin(np.pi * number / (len(span) - 1)) ** 2


def let_go_of_what_is_held(record: Record) -> None:
    for number, tick in enumerate(way_back(record)):
        assert tick.command is not None
        tick.command[6] += 1e-5 * number


def go_back_the_other_way_round(record: Record) -> None:
    span = way_back(record)
    for tick, command in zip(span, [tick.command for tick in span][::-1], strict=True):
        tick.command = command


def push_on(record: Record) -> None:
    for tick in record.ticks[-100:-80]:
        tick.effort, tick.rung = 30.0, Ladder.NOMINAL


def answer_nothing(record: Record) -> None:
    record.answers.pop()


def end_in_the_table(record: Record) -> None:
    for tick in record.ticks[-20:]:
        tick.command = lowered(-0.002)


def confine_it_too_late(record: Record) -> None:
    record.box = np.array([[-1e-3] * 3, [1e-3] * 3])


def promise_slow_tools(record: Record) -> None:
    record.case = replace(record.case, max_speed=0.001)


def swing_over_the_table(record: Record) -> None:
    record.case = replace(record.case, approach=True)
    low = lowered(0.03)
    for number, tick in enumerate(record.ticks[-100:]):
        tick.command, tick.rung, tick.pending = (
            low + 0.012 * number * (np.arange(14) == 0),
            Ladder.NOMINAL,
            False,
        )


def cry_wolf(record: Record) -> None:
    for tick in record.ticks:
        tick.true_sense = True
    record.ticks[record.known_from + 150].code = "measured_contact"


def overlook_a_contact(record: Record) -> None:
    deep = lowered(-0.01)
    for tick in record.ticks[-100:]:
        tick.measured, tick.true_sense, tick.heard, tick.rung = deep, False, True, Ladder.NOMINAL


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        ("moves_under_stop", creep_under_stop),
        ("moves_without_go", creep_under_stop),
        ("stop_left", leave_a_stop),
        ("off_the_path", bend_the_way_back),
        ("fingers_moved", let_go_of_what_is_held),
        ("closer_on_way_back", go_back_the_other_way_round),
        ("pushes_on", push_on),
        ("unanswered", answer_nothing),
        ("contact", end_in_the_table),
        ("outside_workspace", confine_it_too_late),
        ("tool_speed", promise_slow_tools),
        ("fast_near_obstacle", swing_over_the_table),
        ("measured_for_nothing", cry_wolf),
        ("measured_contact_missed", overlook_a_contact),
    ],
)
def test_a_judge_finds_what_is_planted(kind: str, plant: Callable[[Record], None]) -> None:
    record = copy_of(played("piper", 16))
    assert kind not in {one.kind for one in judge(record).faults}
    plant(record)
    assert kind in {one.kind for one in judge(record).faults}


@pytest.mark.parametrize(("share", "kinds"), [(0.25, set()), (0.4, {"faster_than_a_quarter"})])
def test_a_way_back_faster_than_a_quarter_of_the_speed_of_the_way_there_is_found(
    share: float, kinds: set[str]
) -> None:
    record, home, first = Record(draw("piper", 0), 0.01), target("piper").home, np.arange(14) == 0
    there = 0.003 * np.arange(100.0)
    back = np.arange(0.2965, 0.1, -0.003 * share)
    for angle, pending in [(one, False) for one in there] + [(one, True) for one in back]:
        command = home + angle * first
        rung = Ladder.HOLD if pending else Ladder.NOMINAL
        record.ticks.append(Tick(command, rung, "", command, True, True, 0.0, 0.0, (), pending))
    record.ticks.append(replace(record.ticks[-1], pending=False))
    found = Found([])
    ways_back(record, found)
    assert found.retreats == 1
    assert {one.kind for one in found.faults} == kinds


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_measured_arm_is_stopped_just_where_it_is_deeper_or_further_out_than_any_command(
    robot: str,
) -> None:
    """Own distances and own places of the tool; more: `python test/support/measured_looks.py --count 300`."""
    seen = [look(robot, seed) for seed in range(25)]
    assert not [one for one in seen if one.startswith("wrong")]
    assert {"free", "measured_contact"} <= set(seen)


def drawn_payloads(rng: np.random.Generator) -> Iterator[object]:
    """Return payloads as somebody might write them, endlessly; most of them are wrong."""
    numbers = [0, 0.8, -0.1, 1e9, MAX_MASS, np.nan, np.inf, -2.0, 2.0, 2.1, 5e-324]
    odd = [
        None,
        "",
        "0.8 kg",
        True,
        [],
        {},
        {"value": 1},
        {"value": 300, "unit": "g"},
        {"value": 1, "unit": "m"},
    ]

    def any_of(choices: Sequence[object]) -> object:
        return choices[int(rng.integers(len(choices)))]

    while True:
        entries = range(int(rng.choice([3, 3, 3, 2, 4])))
        center: object = [any_of(numbers if rng.random() < 0.9 else odd) for _ in entries]
        mass = any_of(numbers if rng.random() < 0.7 else odd)
        whole = {"mass": mass, "center_of_mass": center if rng.random() < 0.9 else any_of(odd)}
        yield whole if rng.random() < 0.9 else any_of(odd)


def test_a_payload_of_any_shape_is_read_within_its_bounds_or_refused() -> None:
    read = 0
    for payload in itertools.islice(drawn_payloads(np.random.default_rng(15)), 1000):
        value = Value(FILE, "payload", yaml.compose(yaml.safe_dump(payload)))
        with contextlib.suppress(ConfigError):
            one = read_payload(value)
            assert 0.0 <= one.mass <= MAX_MASS
            assert np.abs(one.center_of_mass).max() <= 2.0
            read += 1
    assert 20 < read < 500
