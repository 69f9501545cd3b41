# SPDX-License-Identifier: Apache-2.0
"""Ground truth in the ingest: found by name and stamp, the reference where no camera is used, never stale."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.errors import StaleObservation
from wam.devices.loader import load_robot
from wam.runtime.ingest.ingest import TRUTH_MAX_AGE_NS, StreamIngest

ROBOT = load_robot("franka")
T0 = 1000 * NS_PER_S
WANTED = ("cube.x", "bowl.y")


def message(stamp_ns: int, names: tuple[str, ...], values: tuple[float, ...]) -> SimpleNamespace:
    stamp = SimpleNamespace(sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp), name=list(names), position=list(values), velocity=[], effort=[]
    )


def truth(stamp_ns: int, x: float = 1.0, y: float = 2.0) -> SimpleNamespace:
    return message(stamp_ns, ("bowl.y", "other", "cube.x"), (y, 9.0, x))


def ingest_at(*stamps_ns: int) -> StreamIngest:
    """An ingest whose joints were measured at these times."""
    ingest = StreamIngest(ROBOT, cameras=(), environment=WANTED)
    for stamp_ns in stamps_ns:
        for group in ROBOT.groups:
            home = tuple(joint.home for joint in group.joints)
            ingest.put_joint_state(group.name, message(stamp_ns, group.driver_names, home))
    return ingest


def test_values_are_found_by_name_and_their_stamp_is_the_reference() -> None:
    ingest = ingest_at(T0, T0 + 5 * NS_PER_MS)
    ingest.put_truth(truth(T0))
    seen = ingest.assemble(now_ns=T0 + 6 * NS_PER_MS)
    assert (seen.stamp_ns, seen.state.stamp_ns) == (T0, T0)
    assert seen.environment is not None
    assert seen.environment.names == WANTED
    np.testing.assert_array_equal(seen.environment.values, (1.0, 2.0))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "nothing has arrived yet"),
        (truth(T0 - TRUTH_MAX_AGE_NS - 1), "the newest sample is stale"),
        (message(T0, ("cube.x",), (1.0,)), "ground truth lacks bowl.y"),
        (truth(T0, x=float("nan")), "a finite number for every name"),
        (message(T0, WANTED, (1.0,)), "1 numbers for 2 names"),
        (truth(0), "header.stamp is not set"),
    ],
    ids=["missing", "stale", "another task", "not finite", "torn", "without a stamp"],
)
def test_without_usable_ground_truth_there_is_no_observation(given: SimpleNamespace | None, why: str) -> None:
    ingest = ingest_at(T0)
    if given is not None:
        ingest.put_truth(given)
    with pytest.raises(StaleObservation) as caught:
        ingest.assemble(now_ns=T0)
    assert "ground truth 'truth' (topic wam_sim/truth)" in str(caught.value)
    assert why in str(caught.value)


def test_joints_that_come_faster_than_their_file_says_are_there_for_the_oldest_usable_ground_truth() -> None:
    """The history of the gripper held a fixed number of samples, less than the age that ground truth may have."""
    age_ns = TRUTH_MAX_AGE_NS - 10 * NS_PER_MS
    ingest = ingest_at(*(T0 + i * NS_PER_MS for i in range(age_ns // NS_PER_MS)))
    ingest.put_truth(truth(T0))
    seen = ingest.assemble(now_ns=T0 + age_ns)
    assert (seen.stamp_ns, seen.state.stamp_ns) == (T0, T0)


def test_what_nobody_asked_for_is_dropped() -> None:
    ingest = StreamIngest(ROBOT, cameras=())
    ingest.put_truth(truth(T0))
    assert [one.stream for one in ingest.status()] == [group.name for group in ROBOT.groups]
