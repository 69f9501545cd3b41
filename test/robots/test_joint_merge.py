# SPDX-License-Identifier: Apache-2.0
"""Joint states are sorted by the names in messages, whoever publishes which joints in which order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wam.core.clock import NS_PER_MS
from wam.core.errors import JointError
from wam.data.fakes import fake_robot
from wam.robots.joint_mapping import Conversion
from wam.robots.joint_merge import RESET_TOLERANCE_NS, JointMerge

GROUP = fake_robot(joints=4).groups[0]
NAMES = GROUP.driver_names
AGE_NS = GROUP.state_max_age_ns
T0 = 10**18


def message(names: tuple[str, ...], positions: tuple[float, ...]) -> SimpleNamespace:
    return SimpleNamespace(name=list(names), position=list(positions), velocity=[], effort=[])


def test_arm_and_gripper_of_two_nodes_are_one_state() -> None:
    """A stock UR with a Robotiq gripper was refused: "lacks gripper"."""
    merge = JointMerge(GROUP)
    assert merge.take(message(NAMES[:3], (0.1, 0.2, 0.3)), stamp_ns=T0) is None
    assert merge.waits_for == "nothing has been reported yet of d3, only of d0, d1, d2"
    state = merge.take(message(NAMES[3:], (0.4,)), stamp_ns=T0 + 1)
    assert state is not None
    np.testing.assert_allclose(state[0], [0.1, 0.2, 0.3, 0.4])
    state = merge.take(message(NAMES[:3], (0.5, 0.6, 0.7)), stamp_ns=T0 + NS_PER_MS)
    assert state is not None
    np.testing.assert_allclose(state[0], [0.5, 0.6, 0.7, 0.4])


def test_a_joint_that_falls_silent_makes_the_state_incomplete_and_is_named_in_time() -> None:
    merge = JointMerge(GROUP)
    merge.take(message(NAMES, (0.0, 0.0, 0.0, 0.0)), stamp_ns=T0)
    assert (merge.merged, merge.oldest_ns) == (False, T0)
    step_ns = AGE_NS // 4
    states = [
        merge.take(message(NAMES[:3], (0.1, 0.1, 0.1)), stamp_ns=T0 + i * step_ns) is not None
        for i in range(1, 9)
    ]
    assert states == [True] * 4 + [False] * 4
    # What is told of the state's age is that of the silent joint.
    assert (merge.merged, merge.oldest_ns) == (True, T0)
    with pytest.raises(
        JointError, match=r"lacks d3: got .*; allowed: all of .* within 200 ms, in one message"
    ):
        merge.take(message(NAMES[:3], (0.1, 0.1, 0.1)), stamp_ns=T0 + 10 * step_ns)


def test_messages_of_other_joints_are_not_for_this_group() -> None:
    merge = JointMerge(GROUP)
    merge.take(message(NAMES, (0.0, 0.1, 0.2, 0.3)), stamp_ns=T0)
    for i in range(100):
        wheels = message(("wheel_left", "wheel_right"), (float("nan"), 1e9))
        assert merge.take(wheels, stamp_ns=T0 + i * AGE_NS) is None
        assert merge.take(message(NAMES, (0.0, 0.1, 0.2, 0.3)), stamp_ns=T0 + i * AGE_NS) is not None


def test_a_topic_without_any_joint_of_the_group_is_named_in_time() -> None:
    merge = JointMerge(GROUP)
    assert merge.take(message(("wheel",), (0.0,)), stamp_ns=T0) is None
    with pytest.raises(JointError, match="lacks d0, d1, d2, d3"):
        merge.take(message(("wheel",), (0.0,)), stamp_ns=T0 + AGE_NS + 1)


def test_a_driver_that_comes_back_with_other_names_is_named_in_time() -> None:
    merge = JointMerge(GROUP)
    merge.take(message(NAMES, (0.0, 0.1, 0.2, 0.3)), stamp_ns=T0)
    renamed = message(("right_d0", "right_d1"), (0.0, 0.1))
    assert merge.take(renamed, stamp_ns=T0 + AGE_NS + 1) is None
    with pytest.raises(JointError, match=r"lacks d0, d1, d2, d3: got .*right_d0"):
        merge.take(renamed, stamp_ns=T0 + 2 * AGE_NS + 2)


def test_what_was_reported_before_a_clock_was_set_back_does_not_count() -> None:
    merge = JointMerge(GROUP)
    merge.take(message(NAMES, (0.0, 0.1, 0.2, 0.3)), stamp_ns=T0)
    before_ns = T0 - RESET_TOLERANCE_NS - 1
    assert merge.take(message(NAMES[:2], (0.5, 0.5)), stamp_ns=before_ns) is None
    state = merge.take(message(NAMES[2:], (0.6, 0.6)), stamp_ns=before_ns + 1)
    assert state is not None
    np.testing.assert_allclose(state[0], [0.5, 0.5, 0.6, 0.6])


def test_units_and_efforts_go_with_the_joint_in_whatever_message_it_is() -> None:
    joints = (replace(GROUP.joints[0], conversion=Conversion(state=0.5)), *GROUP.joints[1:])
    merge = JointMerge(replace(GROUP, joints=joints))
    first = SimpleNamespace(name=["d1", "d0"], position=[0.2, 0.4], velocity=[1.0, 2.0], effort=[7.0, 8.0])
    assert merge.take(first, stamp_ns=T0) is None
    merge.take_efforts(first)
    second = message(NAMES[2:], (0.3, 0.4))
    state = merge.take(second, stamp_ns=T0 + 1)
    assert state is not None
    np.testing.assert_allclose(state[0], [0.2, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(state[1], [1.0, 1.0, np.nan, np.nan])
    np.testing.assert_allclose(merge.take_efforts(second), [8.0, 7.0, np.nan, np.nan])


@st.composite
def publishers(draw: st.DrawFn) -> list[tuple[int, tuple[str, ...]]]:
    """Messages as stamps and names: every joint is in some layout, in any order, with others between them."""
    order = draw(st.permutations(NAMES))
    cuts = sorted(draw(st.sets(st.integers(1, len(NAMES) - 1))))
    edges = [0, *cuts, len(NAMES)]
    layouts = [tuple(order[a:b]) for a, b in itertools.pairwise(edges)]
    # Some joints twice, and joints of others.
    layouts = [
        tuple(dict.fromkeys((*layout, *draw(st.lists(st.sampled_from((*NAMES, "x", "y")), max_size=2)))))
        for layout in layouts
    ]
    turns = draw(st.lists(st.sampled_from(range(len(layouts))), min_size=5, max_size=30))
    steps = draw(st.lists(st.integers(0, AGE_NS // 3), min_size=len(turns), max_size=len(turns)))
    stamps = np.cumsum(steps).tolist()
    return [(T0 + stamp, layouts[turn]) for stamp, turn in zip(stamps, turns, strict=True)]


@given(publishers())
@settings(max_examples=200, deadline=None)
def test_every_state_holds_the_newest_position_of_each_joint_within_its_age(
    sent: list[tuple[int, tuple[str, ...]]],
) -> None:
    """Held to a table of who said what when, for any number of publishers, layouts, orders and repeated joints."""
    merge = JointMerge(GROUP)
    newest: dict[str, tuple[int, float]] = {}
    for number, (stamp_ns, names) in enumerate(sent):
        values = tuple((number + i / 10) / 100 for i in range(len(names)))
        newest |= {
            name: (stamp_ns, value) for name, value in zip(names, values, strict=True) if name in NAMES
        }
        whole = all(name in newest and stamp_ns - newest[name][0] <= AGE_NS for name in NAMES)
        try:
            state = merge.take(message(names, values), stamp_ns=stamp_ns)
        except JointError:
            assert not whole
            continue
        ours = any(name in NAMES for name in names)
        assert (state is not None) == (whole and ours)
        if state is not None:
            np.testing.assert_allclose(state[0], [newest[name][1] for name in NAMES])
