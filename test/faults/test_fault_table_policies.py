# SPDX-License-Identifier: Apache-2.0
"""Faults of robots that are driven by the three policies, with all nodes over DDS: rung, motion, way back.

Tiny bundles with random weights wander slowly. Trajectory controllers are judged by what their arm does.
`make faults` (WAM_FAULT_TABLE) injects all faults, a test run the first ones.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import pytest
from fault_bed import Beds, Case, estop_topic
from fault_outcome import CLEAR, HOLD, STOP, Page, differences
from message_faults import drop_all, each, put, rows, state_plus, zero_state
from motion import Bounds

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.slow, pytest.mark.camera]

RUNS_OUT = Bounds(travel=0.25, rest=2.5)
"""A chunk of a tiny policy comes every 200 ms or less, and overdue are those of 300 to 600 ms, by robot."""
NEXT_CHUNK = Bounds(travel=0.15, rest=1.5)
AT_ONCE = Bounds(travel=0.1, rest=1.0)

OVERDUE = ("chunk_timeout", "rows_exhausted", "executor_lost")
LOST = ("joint_state_timeout", "future_joint_state", "driver_lost")

BEDS = {
    "piper": ("Piper", "aha_wam/random", 0.2),
    "franka": ("Franka FR3", "dust/random", 0.2),
    "ur5e_inspire": ("UR5e with Inspire hands", "ud_vla/random", 0.1),
}
"""Robot -> title, policy, and the period of plans and chunks [s].

Of the eight rows of 67 ms that UD-VLA makes, a context of 0.2 s leaves five. The last one is due 0.27 s after an image
that is up to 0.11 s old, and commands go out 0.07 s ahead: there is less left than a period of 0.2 s.
"""

CASES = (
    Case("every chunk is lost", HOLD, OVERDUE, chunks=drop_all, bounds=RUNS_OUT),
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
        "a target is NaN",
        STOP,
        ("non_finite",),
        chunks=rows(put(-1, 3, math.nan)),
        bounds=NEXT_CHUNK,
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
)
IN_A_TEST_RUN = 2
"""The first ones; a bed takes longer to start than a fault."""


@pytest.fixture(scope="module", params=BEDS)
def beds(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Beds, str]]:
    robot = request.param
    title, policy, period = BEDS[robot]
    options = {"policy": policy, "composed": True, "plan_period": period, "chunk_period": period}
    beds = Beds(tmp_path_factory.mktemp("faults"), robot, **options)
    yield beds, f"## {title}, all nodes over DDS, policy `{policy}`"
    beds.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "case", CASES if os.environ.get("WAM_FAULT_TABLE") else CASES[:IN_A_TEST_RUN], ids=lambda case: case.name
)
def test_a_fault_of_a_policy_ends_on_its_rung(beds: tuple[Beds, str], fault_page: Page, case: Case) -> None:
    robots, section = beds
    with robots.fresh() as bed:
        outcome = bed.inject(case)
        fault_page.add(section, case, outcome)
        assert differences(case, outcome) == []
