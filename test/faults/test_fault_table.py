# SPDX-License-Identifier: Apache-2.0
"""Every named fault against the simulated Piper over real DDS: expected rung, time to it, and recovery.

Every fault is injected while the arms of a fresh robot move in NOMINAL, and must be recovered from. Time is simulated
and waits for the slowest node. With WAM_FAULT_TABLE=FILE the table of the run is written there as Markdown
(`make faults` writes docs/reference/faults.md).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Duration, Time
from fault_bed import (
    Beds,
    Case,
    as_expected,
    estop_service,
    estop_topic,
    freeze,
    freeze_executor,
    full_disk,
    kill,
    restart_safety,
    second_publisher,
    start_recording,
    write_table,
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
)

from wam.core.verdict import Ladder

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.slow]

NOMINAL, HOLD, STOP = Ladder.NOMINAL, Ladder.HOLD, Ladder.STOP

REFUSED = ("chunk_timeout", "rows_exhausted")
"""A chunk that is not let in leaves the rows at hand; HOLD comes when they run out."""
BLIND = (*REFUSED, "executor_lost")
"""Without a picture no chunk is made."""
LOST = ("joint_state_timeout", "malformed_joint_state", "driver_lost")

CASES = (
    # Chunks late, lost, or in disorder.
    Case("every chunk is lost", HOLD, (*REFUSED, "executor_lost"), chunks=drop_all),
    Case("every other chunk is lost", NOMINAL, chunks=drop_every_other),
    Case("chunks arrive twice", NOMINAL, chunks=twice),
    Case("chunks arrive in swapped pairs", NOMINAL, chunks=swap_pairs),
    Case("chunks arrive one late (100 ms)", NOMINAL, chunks=late_by(1)),
    Case("chunks arrive ten late (1 s)", HOLD, (*REFUSED, "stale_chunk"), chunks=late_by(10)),
    Case("the same chunk arrives repeatedly", HOLD, (*REFUSED, "duplicate_chunk"), chunks=frozen),
    Case("chunks are stamped 10 s in the past", HOLD, REFUSED, chunks=each(shift(-10))),
    Case("chunks are stamped 10 s in the future", HOLD, REFUSED, chunks=each(shift(10))),
    Case("chunks are stamped zero", HOLD, REFUSED, chunks=each(lambda m: setattr(m.header, "stamp", Time()))),
    # Chunks that are not what they should be.
    Case("a target is NaN", STOP, ("non_finite",), chunks=rows(put(15, 3, math.nan))),
    Case("a target is infinite", STOP, ("non_finite",), chunks=rows(put(15, 3, math.inf))),
    Case(
        "the contract belongs to another policy",
        HOLD,
        REFUSED,
        chunks=each(with_field("contract_hash", "b" * 64)),
    ),
    Case(
        "a joint name is unknown",
        HOLD,
        REFUSED,
        chunks=each(lambda m: setattr(m, "joint_names", ["elbow", *m.joint_names[1:]])),
    ),
    Case(
        "a joint name appears twice",
        HOLD,
        REFUSED,
        chunks=each(lambda m: setattr(m, "joint_names", [m.joint_names[1], *m.joint_names[1:]])),
    ),
    Case("names are shifted by one", HOLD, ("jump", *REFUSED, "velocity_limit"), chunks=each(rename)),
    Case("names and columns are both reversed", NOMINAL, chunks=each(reorder)),
    Case("rows are missing", HOLD, REFUSED, chunks=each(with_field("num_rows", 17))),
    Case(
        "there are no rows",
        HOLD,
        REFUSED,
        chunks=each(lambda m: (setattr(m, "num_rows", 0), setattr(m, "positions", []))),
    ),
    Case("the row period is zero", HOLD, REFUSED, chunks=each(with_field("row_period", Duration()))),
    Case(
        "the row period is negative", HOLD, REFUSED, chunks=each(with_field("row_period", Duration(sec=-1)))
    ),
    Case("the whole chunk jumps by 1 rad", HOLD, ("jump", *REFUSED), chunks=rows(lambda t: t + 1.0)),
    Case(
        "rows are zeros (padding that denormalises to the zero pose)",
        HOLD,
        ("jump", "velocity_limit", "acceleration_limit", "jerk_limit", *REFUSED),
        chunks=rows(np.zeros_like),
    ),
    Case("targets are 1e6", HOLD, chunks=rows(lambda t: np.full_like(t, 1e6))),
    Case("targets are off by denormal numbers", NOMINAL, chunks=rows(lambda t: t + 5e-324)),
    Case("targets jitter by 0.2 mrad", NOMINAL, chunks=rows(noise(2e-4))),
    Case(
        "the policy is reset at every chunk",
        NOMINAL,
        ("generation_reset",),
        chunks=count_generations,
    ),
    # Joint states late, lost, or wrong.
    Case("joint states are lost", HOLD, LOST, states=drop_all),
    Case("half of the joint states are lost", NOMINAL, states=drop_half),
    Case("joint states are 5 s old", HOLD, LOST, states=each(shift(-5))),
    Case(
        "a measured position is NaN",
        HOLD,
        LOST,
        states=each(lambda m: setattr(m, "position", [math.nan, *m.position[1:]])),
    ),
    Case("a joint is missing in the joint states", HOLD, LOST, states=each(drop_column)),
    Case("joint states have another order and no velocity", NOMINAL, states=each(reverse_state)),
    Case("joint states are in degrees", HOLD, (*LOST, "tracking_error", "jump"), states=each(to_degrees)),
    Case("a joint is measured 0.6 rad away", STOP, ("tracking_error",), states=each(state_plus(0.6))),
    # Cameras.
    Case("the camera is off", HOLD, BLIND, images=drop_all),
    Case("every other image is lost", NOMINAL, images=drop_every_other),
    Case("the same image arrives repeatedly", HOLD, BLIND, images=frozen),
    Case("images are 5 s old", HOLD, BLIND, images=each(shift(-5))),
    Case("images have another size", HOLD, BLIND, images=each(crop)),
    Case("images have another encoding", HOLD, BLIND, images=each(with_field("encoding", "16UC1"))),
    # Processes.
    Case(
        "the executor is killed",
        HOLD,
        (*REFUSED, "executor_lost"),
        act=kill("executor"),
        before=lambda bed: bed.rig.until_passing_home(),
    ),
    Case("the planner is killed", HOLD, (*REFUSED, "executor_lost"), act=kill("planner")),
    Case("the robot's driver is killed", HOLD, (*LOST, "no_listener"), act=kill("sim")),
    Case("the safety node is killed", HOLD, act=restart_safety),
    Case("the executor freezes for 0.1 s", NOMINAL, act=freeze("executor", 0.1)),
    Case("the executor freezes permanently", HOLD, (*REFUSED, "executor_lost"), act=freeze_executor),
    Case(
        "the safety node freezes for 0.5 s", HOLD, ("command_gap", *REFUSED, *LOST), act=freeze("safety", 0.5)
    ),
    # A frozen subscriber can hold up its publisher, whose stream then reports a gap of its own.
    Case(
        "the driver freezes for 0.5 s",
        HOLD,
        (*LOST, *REFUSED, "tracking_error", "command_gap"),
        act=freeze("sim", 0.5),
    ),
    # People and other nodes.
    Case("true is published on the e-stop topic", STOP, ("estop",), act=estop_topic),
    Case("the e-stop service is called", STOP, ("estop",), act=estop_service),
    Case("a second node publishes commands", STOP, ("second_publisher",), act=second_publisher),
    # What must not matter.
    Case("the disk of a recording is full", NOMINAL, act=full_disk, before=start_recording),
)


@pytest.fixture(scope="module")
def beds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beds]:
    beds = Beds(tmp_path_factory.mktemp("faults"))
    yield beds
    beds.close()
    table = os.environ.get("WAM_FAULT_TABLE")
    if table:
        write_table(Path(table), beds.outcomes)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_ends_on_its_rung_and_is_recovered_from(beds: Beds, case: Case) -> None:
    with beds.fresh() as bed:
        outcome = bed.inject(case)
        beds.outcomes.append((case, outcome))
        assert as_expected(case, outcome), f"{outcome.rung.name}, reported as {outcome.codes}"


def test_there_are_forty_named_faults_or_more() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40
