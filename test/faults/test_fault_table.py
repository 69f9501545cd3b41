# SPDX-License-Identifier: Apache-2.0
"""Every named fault against the simulated Piper over real DDS: rung, motion, and what it takes to move again.

Every fault is injected while the arms of a fresh robot move in NOMINAL, and must be recovered from. Time is simulated
and waits for the slowest node. With WAM_FAULT_TABLE=FILE the tables of the run are written there as Markdown
(`make faults` writes docs/reference/faults.md).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np
import pytest
from builtin_interfaces.msg import Duration, Time
from fault_bed import (
    Beds,
    Case,
    estop_service,
    estop_topic,
    freeze,
    freeze_executor,
    full_disk,
    kill,
    restart_safety,
    second_publisher,
    start_recording,
)
from fault_outcome import CLEAR, HOLD, NOMINAL, STOP, Page, differences
from intruder import (
    another_clock,
    best_effort_button,
    foreign_chunks,
    foreign_contexts,
    second_driver,
    second_safety,
    two_buttons,
)
from message_faults import (
    count_generations,
    crop,
    drop_all,
    drop_column,
    drop_every_other,
    drop_half,
    each,
    frozen,
    late_by,
    many_rows,
    noise,
    put,
    rename,
    reorder,
    reverse_state,
    rows,
    shift,
    state_plus,
    swap_pairs,
    to_degrees,
    twice,
    with_field,
    zero_state,
)
from motion import Bounds

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.slow]

GOES_ON = Bounds(travel=0.4, rest=None, least=0.08, speed=0.5)
"""The built-in policy waves by up to 0.25 rad/s, and covers up to 0.25 rad in a second."""
GOES_ON_LONG = Bounds(travel=2.0, rest=None, least=0.08, speed=0.5)
"""The same while a process starts or is discovered."""
RUNS_ON = Bounds(travel=1.0, rest=3.0, speed=0.5)
"""The arm goes on until the fault is seen: a node has to be discovered first."""
RUNS_OUT = Bounds(travel=0.2, rest=1.0, speed=0.5)
"""Rows at hand are played until chunks are overdue (300 ms), then the arm comes to rest."""
CONTEXT_AGES = Bounds(travel=0.6, rest=3.0, speed=0.5)
"""Chunks are made from the last context of a planner for another 2 s."""
NEXT_CHUNK = Bounds(travel=0.2, rest=0.8, speed=0.5)
"""The arm comes to rest from the next chunk on, at most 100 ms later."""
UNHEARD = Bounds(travel=0.2, rest=0.7, speed=0.5)
"""It takes 100 ms to notice that no joint state is heard."""
AT_ONCE = Bounds(travel=0.12, rest=0.6, speed=0.5)
"""It comes to rest at once: from 0.5 rad/s within 0.1 rad."""

REFUSED = ("chunk_timeout", "rows_exhausted")
"""A chunk that is not let in leaves the rows at hand; HOLD comes when they run out."""
BLIND = (*REFUSED, "executor_lost")
"""Without a picture no chunk is made."""
LOST = ("joint_state_timeout", "malformed_joint_state", "driver_lost")

CASES = (
    # Chunks late, lost, or in disorder.
    Case("every chunk is lost", HOLD, (*REFUSED, "executor_lost"), chunks=drop_all, bounds=RUNS_OUT),
    Case("every other chunk is lost", NOMINAL, chunks=drop_every_other, bounds=GOES_ON),
    Case("chunks arrive twice", NOMINAL, chunks=twice, bounds=GOES_ON),
    Case("chunks arrive in swapped pairs", NOMINAL, chunks=swap_pairs, bounds=GOES_ON),
    Case("chunks arrive one late (100 ms)", NOMINAL, chunks=late_by(1), bounds=GOES_ON),
    Case(
        "chunks arrive ten late (1 s)", HOLD, (*REFUSED, "stale_chunk"), chunks=late_by(10), bounds=RUNS_OUT
    ),
    Case(
        "the same chunk arrives repeatedly",
        HOLD,
        (*REFUSED, "duplicate_chunk"),
        chunks=frozen,
        bounds=RUNS_OUT,
    ),
    Case("chunks are stamped 10 s in the past", HOLD, REFUSED, chunks=each(shift(-10)), bounds=RUNS_OUT),
    Case("chunks are stamped 10 s in the future", HOLD, REFUSED, chunks=each(shift(10)), bounds=RUNS_OUT),
    Case(
        "chunks are stamped zero",
        HOLD,
        REFUSED,
        chunks=each(lambda m: setattr(m.header, "stamp", Time())),
        bounds=RUNS_OUT,
    ),
    # Chunks that are not what they should be.
    Case(
        "a target is NaN",
        STOP,
        ("non_finite",),
        chunks=rows(put(15, 3, math.nan)),
        bounds=NEXT_CHUNK,
        again=CLEAR,
    ),
    Case(
        "a target is infinite",
        STOP,
        ("non_finite",),
        chunks=rows(put(15, 3, math.inf)),
        bounds=NEXT_CHUNK,
        again=CLEAR,
    ),
    Case(
        "the contract belongs to another policy",
        HOLD,
        REFUSED,
        chunks=each(with_field("contract_hash", "b" * 64)),
        bounds=RUNS_OUT,
    ),
    Case(
        "a joint name is unknown",
        HOLD,
        REFUSED,
        chunks=each(lambda m: setattr(m, "joint_names", ["elbow", *m.joint_names[1:]])),
        bounds=RUNS_OUT,
    ),
    Case(
        "a joint name appears twice",
        HOLD,
        REFUSED,
        chunks=each(lambda m: setattr(m, "joint_names", [m.joint_names[1], *m.joint_names[1:]])),
        bounds=RUNS_OUT,
    ),
    Case(
        "names are shifted by one",
        HOLD,
        ("jump", *REFUSED, "velocity_limit"),
        chunks=each(rename),
        bounds=NEXT_CHUNK,
    ),
    Case("names and columns are both reversed", NOMINAL, chunks=each(reorder), bounds=GOES_ON),
    Case("rows are missing", HOLD, REFUSED, chunks=each(with_field("num_rows", 17)), bounds=RUNS_OUT),
    Case(
        "there are no rows",
        HOLD,
        REFUSED,
        chunks=each(lambda m: (setattr(m, "num_rows", 0), setattr(m, "positions", []))),
        bounds=RUNS_OUT,
    ),
    Case(
        "the row period is zero",
        HOLD,
        REFUSED,
        chunks=each(with_field("row_period", Duration())),
        bounds=RUNS_OUT,
    ),
    Case(
        "16 rows last for 160 minutes",
        HOLD,
        (*REFUSED, "chunk_too_long"),
        chunks=each(with_field("row_period", Duration(sec=600))),
        bounds=RUNS_OUT,
    ),
    Case(
        "the row period is negative",
        HOLD,
        REFUSED,
        chunks=each(with_field("row_period", Duration(sec=-1))),
        bounds=RUNS_OUT,
    ),
    Case(
        "the whole chunk jumps by 1 rad",
        HOLD,
        ("jump", *REFUSED),
        chunks=rows(lambda t: t + 1.0),
        bounds=NEXT_CHUNK,
    ),
    Case(
        "rows are zeros (padding that denormalises to the zero pose)",
        HOLD,
        ("jump", "velocity_limit", "acceleration_limit", "jerk_limit", *REFUSED),
        chunks=rows(np.zeros_like),
        bounds=NEXT_CHUNK,
    ),
    Case(
        "targets are 1e6", STOP, chunks=rows(lambda t: np.full_like(t, 1e6)), bounds=NEXT_CHUNK, again=CLEAR
    ),
    Case("targets are off by denormal numbers", NOMINAL, chunks=rows(lambda t: t + 5e-324), bounds=GOES_ON),
    Case("targets jitter by 0.2 mrad", NOMINAL, chunks=rows(noise(2e-4)), bounds=GOES_ON),
    Case(
        "the policy is reset at every chunk",
        NOMINAL,
        ("generation_reset",),
        chunks=count_generations,
        bounds=GOES_ON,
    ),
    # Joint states late, lost, or wrong.
    Case("joint states are lost", HOLD, LOST, states=drop_all, bounds=UNHEARD),
    Case("half of the joint states are lost", NOMINAL, states=drop_half, bounds=GOES_ON),
    Case("joint states are 5 s old", HOLD, LOST, states=each(shift(-5)), bounds=UNHEARD),
    Case(
        "a measured position is NaN",
        HOLD,
        LOST,
        states=each(lambda m: setattr(m, "position", [math.nan, *m.position[1:]])),
        bounds=UNHEARD,
    ),
    Case("a joint is missing in the joint states", HOLD, LOST, states=each(drop_column), bounds=UNHEARD),
    Case(
        "joint states have another order and no velocity", NOMINAL, states=each(reverse_state), bounds=GOES_ON
    ),
    Case(
        "joint states are in degrees",
        HOLD,
        (*LOST, "tracking_error", "jump"),
        states=each(to_degrees),
        bounds=UNHEARD,
    ),
    Case(
        "a joint is measured 0.6 rad away",
        STOP,
        ("tracking_error",),
        states=each(state_plus(0.6)),
        bounds=AT_ONCE,
        again=CLEAR,
    ),
    Case(
        "the driver reports zeros",
        STOP,
        ("tracking_error",),
        states=each(zero_state),
        bounds=AT_ONCE,
        again=CLEAR,
    ),
    Case(
        "joint states are stamped 5 s ahead",
        HOLD,
        (*LOST, "future_joint_state"),
        states=each(shift(5)),
        bounds=UNHEARD,
    ),
    Case(
        "a second driver reports joint states under the same name",
        HOLD,
        ("drivers_disagree",),
        act=second_driver,
        bounds=RUNS_ON,
    ),
    # Cameras.
    Case("the camera is off", HOLD, BLIND, images=drop_all, bounds=RUNS_OUT),
    Case("every other image is lost", NOMINAL, images=drop_every_other, bounds=GOES_ON),
    Case("the same image arrives repeatedly", HOLD, BLIND, images=frozen, bounds=RUNS_OUT),
    Case("images are 5 s old", HOLD, BLIND, images=each(shift(-5)), bounds=RUNS_OUT),
    Case("images have another size", HOLD, BLIND, images=each(crop), bounds=RUNS_OUT),
    Case(
        "images have another encoding",
        HOLD,
        BLIND,
        images=each(with_field("encoding", "16UC1")),
        bounds=RUNS_OUT,
    ),
    # Processes.
    Case(
        "the executor is killed",
        HOLD,
        (*REFUSED, "executor_lost"),
        act=kill("executor"),
        before=lambda bed: bed.rig.until_passing_home(),
        bounds=RUNS_OUT,
    ),
    Case(
        "the planner is killed", HOLD, (*REFUSED, "executor_lost"), act=kill("planner"), bounds=CONTEXT_AGES
    ),
    Case("the robot's driver is killed", HOLD, (*LOST, "no_listener"), act=kill("sim"), bounds=UNHEARD),
    Case("the safety node is killed", HOLD, act=restart_safety, bounds=AT_ONCE),
    Case("the executor freezes for 0.1 s", NOMINAL, act=freeze("executor", 0.1), bounds=GOES_ON),
    Case(
        "the executor freezes permanently",
        HOLD,
        (*REFUSED, "executor_lost"),
        act=freeze_executor,
        bounds=RUNS_OUT,
    ),
    Case(
        "the safety node freezes for 0.5 s",
        HOLD,
        ("command_gap", *REFUSED, *LOST),
        act=freeze("safety", 0.5),
        bounds=AT_ONCE,
    ),
    # A frozen subscriber can hold up its publisher, whose stream then reports a gap of its own.
    Case(
        "the driver freezes for 0.5 s",
        HOLD,
        (*LOST, *REFUSED, "tracking_error", "command_gap"),
        act=freeze("sim", 0.5),
        bounds=UNHEARD,
    ),
    # People and other nodes.
    Case(
        "true is published on the e-stop topic",
        STOP,
        ("estop",),
        act=estop_topic,
        bounds=AT_ONCE,
        again=CLEAR,
    ),
    Case("the e-stop service is called", STOP, ("estop",), act=estop_service, bounds=AT_ONCE, again=CLEAR),
    Case(
        "a second node publishes commands",
        STOP,
        ("second_publisher",),
        act=second_publisher,
        bounds=AT_ONCE,
        again=CLEAR,
    ),
    Case(
        "the e-stop is pressed while a joint is measured 0.8 rad away",
        STOP,
        ("estop", "tracking_error"),
        states=each(state_plus(0.8)),
        act=estop_topic,
        bounds=AT_ONCE,
        again=CLEAR,
    ),
    Case(
        "the e-stop is pressed while chunks have 4,096 rows",
        STOP,
        ("estop",),
        chunks=each(many_rows),
        act=estop_topic,
        bounds=AT_ONCE,
        again=CLEAR,
    ),
    Case(
        "an e-stop button publishes best effort",
        STOP,
        ("estop",),
        act=best_effort_button,
        bounds=RUNS_ON,
        again=CLEAR,
    ),
    Case(
        "one e-stop button is held, another says false",
        STOP,
        ("estop",),
        act=two_buttons,
        bounds=RUNS_ON,
        again=CLEAR,
    ),
    # What must not matter.
    Case("a second safety node is launched", NOMINAL, act=second_safety, bounds=GOES_ON_LONG),
    Case("another node publishes contexts", NOMINAL, act=foreign_contexts, bounds=GOES_ON_LONG),
    Case("another node sends chunks 99 ms ahead", NOMINAL, act=foreign_chunks, bounds=GOES_ON_LONG),
    Case("the clock of the active safety node is changed", NOMINAL, act=another_clock, bounds=GOES_ON),
    Case("the disk of a recording is full", NOMINAL, act=full_disk, before=start_recording, bounds=GOES_ON),
)


ONLY_IN_THE_TABLE = frozenset(
    {
        "chunks arrive twice",
        "chunks arrive in swapped pairs",
        "chunks are stamped 10 s in the past",
        "chunks are stamped zero",
        "a target is infinite",
        "a joint name is unknown",
        "a joint name appears twice",
        "rows are missing",
        "there are no rows",
        "the row period is zero",
        "the row period is negative",
        "targets are 1e6",
        "targets are off by denormal numbers",
        "a joint is missing in the joint states",
        "joint states have another order and no velocity",
        "joint states are stamped 5 s ahead",
        "every other image is lost",
        "images are 5 s old",
        "images have another size",
        "images have another encoding",
        "the driver freezes for 0.5 s",
        "the e-stop is pressed while chunks have 4,096 rows",
        "one e-stop button is held, another says false",
    }
)
"""Faults whose way through the nodes is that of another row: `make faults` injects them, a test run does not."""

RUN = [one for one in CASES if os.environ.get("WAM_FAULT_TABLE") or one.name not in ONLY_IN_THE_TABLE]


@pytest.fixture(scope="module")
def beds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beds]:
    beds = Beds(tmp_path_factory.mktemp("faults"))
    yield beds
    beds.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", RUN, ids=lambda case: case.name)
def test_a_fault_ends_on_its_rung_and_is_recovered_from(beds: Beds, fault_page: Page, case: Case) -> None:
    with beds.fresh() as bed:
        outcome = bed.inject(case)
        fault_page.add("## Piper, all nodes over DDS, policy `fake`", case, outcome)
        assert differences(case, outcome) == []


def test_there_are_forty_named_faults_or_more() -> None:
    names = {case.name for case in CASES}
    assert len(names) == len(CASES) >= 40
    assert names > ONLY_IN_THE_TABLE
