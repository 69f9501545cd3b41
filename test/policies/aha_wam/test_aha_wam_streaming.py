# SPDX-License-Identifier: Apache-2.0
"""Streaming without end: the rolling memory on the control clock.

The reference counts prefills: its temporal position overflows after 103 of them, and its memory spans whatever
time six prefills took.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from wam.core.context import PlannerContext
from wam.core.contract import PolicyContract
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.models.bundle import Bundle
from wam.policies.aha_wam.config import tiny
from wam.policies.aha_wam.context import AhaContext
from wam.policies.aha_wam.memory import MemoryEntry, RollingMemory
from wam.policies.aha_wam.planner import AhaPlanner
from wam.policies.bundles import load_policy, make_tiny_bundle

PERIOD_NS = 33_333_333
SPACING, STRIDE, WINDOW = 64, 8, 6
TASK = Instruction("fold the towel")
PREFILLS = 100_000
PREFILL_ROWS = 3
"""A prefill every 100 ms, as a busy planner does."""


def entry(stamp_ns: int) -> MemoryEntry:
    mark = torch.full((1, 1, 1, 2), float(stamp_ns % 1000))
    return MemoryEntry(stamp_ns, mark, mark)


def memory(window: int = WINDOW) -> RollingMemory:
    return RollingMemory(window=window, spacing_rows=SPACING, stride=STRIDE, period_ns=PERIOD_NS)


def ages(view_stamp_ns: int, rolling: RollingMemory) -> list[int]:
    return [round((view_stamp_ns - e.stamp_ns) / PERIOD_NS) for e in rolling.view(view_stamp_ns).entries]


def test_entries_keep_the_spacing_of_training_whatever_the_rate_of_prefills() -> None:
    for every in (1, 3, 5, 16, 30, 32, 48, 64):
        rolling = memory()
        for row in range(0, 40 * SPACING, every):
            stamp = row * PERIOD_NS
            seen = ages(stamp, rolling)
            distances = [a - b for a, b in itertools.pairwise(seen)]
            assert all(abs(distance - SPACING) <= every / 2 for distance in distances), (every, row, seen)
            assert all(age >= SPACING - every / 2 for age in seen), (every, row, seen)
            if every in (1, 16, 32, 64):
                assert len(seen) == min(WINDOW, (row + every // 2) // SPACING), (every, row, seen)
            rolling.admit(entry(stamp))
        assert len(rolling) >= WINDOW - 1


def test_a_prefill_never_reads_itself_and_at_most_the_window() -> None:
    rolling = memory()
    rolling.view(0)
    assert rolling.admit(entry(0))
    assert rolling.view(0).entries == ()
    for k in range(1, 12):
        stamp = k * SPACING * PERIOD_NS
        view = rolling.view(stamp)
        assert [e.stamp_ns for e in view.entries] == [
            i * SPACING * PERIOD_NS for i in range(max(0, k - WINDOW), k)
        ]
        rolling.admit(entry(stamp))
    assert len(rolling) == WINDOW


def test_positions_begin_as_in_training_and_stay_bounded() -> None:
    """In training the position of a frame is its row / 8; an episode's first frame is at 0."""
    rolling = memory()
    for k in range(WINDOW + 1):
        view = rolling.view(k * SPACING * PERIOD_NS)
        assert view.own_position == k * SPACING // STRIDE
        assert view.entry_positions == tuple(i * SPACING // STRIDE for i in range(k))
        rolling.admit(entry(k * SPACING * PERIOD_NS))
    view = rolling.view((WINDOW + 1) * SPACING * PERIOD_NS)
    assert view.entry_positions[0] == 0
    assert view.own_position == WINDOW * SPACING // STRIDE


def test_between_two_entries_the_position_follows_the_clock() -> None:
    rolling = memory()
    rolling.admit(entry(0))
    positions = [rolling.view(row * PERIOD_NS).own_position for row in (0, 7, 8, 20, 63, 64, 71)]
    assert positions == [0, 0, 1, 2, 7, 8, 8]


def test_after_a_long_pause_the_past_is_forgotten() -> None:
    rolling = memory()
    for k in range(4):
        rolling.view(k * SPACING * PERIOD_NS)
        rolling.admit(entry(k * SPACING * PERIOD_NS))
    view = rolling.view(10**9 * PERIOD_NS)
    assert view.entries == ()
    assert view.own_position == 0


def test_a_window_of_zero_keeps_nothing() -> None:
    rolling = memory(window=0)
    assert not rolling.admit(entry(0))
    assert rolling.view(10**12).entries == ()


def test_clearing_forgets_also_the_entry_that_waits() -> None:
    rolling = memory()
    rolling.admit(entry(0))
    rolling.clear()
    assert rolling.view(2 * SPACING * PERIOD_NS).entries == ()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.set_num_threads(1)
    return make_tiny_bundle(tmp_path_factory.mktemp("stream") / "bundle", "aha_wam")


def planner(bundle: Bundle) -> AhaPlanner:
    made = load_policy(bundle.directory, executor=False).planner
    assert isinstance(made, AhaPlanner)
    return made


_frames: dict[int, np.ndarray] = {}


def observe(contract: PolicyContract, stamp_ns: int, picture: int) -> Observation:
    if picture not in _frames:
        low = picture * 9 % 200
        _frames[picture] = np.random.default_rng(picture).integers(low, low + 50, (60, 80, 3), dtype=np.uint8)
    frames = {n: CameraFrame(n, stamp_ns, _frames[picture]) for n in contract.camera_names}
    joints = contract.state_joints
    return Observation(
        stamp_ns, frames, RobotState(stamp_ns, joints, np.zeros(len(joints)), np.zeros(len(joints)))
    )


def run(bundle: Bundle, start_ns: int, rows: list[int]) -> list[PlannerContext[AhaContext]]:
    slow = planner(bundle)
    return [
        slow.plan(observe(bundle.contract, start_ns + row * PERIOD_NS, i), instruction=TASK)
        for i, row in enumerate(rows)
    ]


def test_shifting_time_changes_nothing_but_the_stamps(bundle: Bundle) -> None:
    rows = [0, 3, 30, 64, 70, 128, 200, 300, 301, 450, 600, 700]
    early, late = run(bundle, 0, rows), run(bundle, 1_900_000_000 * 10**9, rows)
    for a, b in zip(early, late, strict=True):
        assert torch.equal(a.payload.k, b.payload.k)
        assert torch.equal(a.payload.v, b.payload.v)


def test_without_memory_a_planner_is_the_same_as_one_that_sees_its_first_image(
    bundle: Bundle, tmp_path: Path
) -> None:
    plain = make_tiny_bundle(tmp_path / "plain", "aha_wam", overrides={"memory_window": 0})
    contexts = run(plain, 0, [0, 100, 200, 300])
    fresh = planner(bundle)
    for i, (row, context) in enumerate(zip([0, 100, 200, 300], contexts, strict=True)):
        fresh.reset()
        first = fresh.plan(observe(bundle.contract, row * PERIOD_NS, i), instruction=TASK)
        assert torch.equal(first.payload.k, context.payload.k)


def test_the_memory_has_an_effect_and_a_reset_ends_it(bundle: Bundle) -> None:
    slow = planner(bundle)
    c = bundle.contract
    first = slow.plan(observe(c, 0, 1), instruction=TASK)
    later = slow.plan(observe(c, 100 * PERIOD_NS, 1), instruction=TASK)
    assert (later.payload.v - first.payload.v).abs().max() > 1e-4
    slow.reset()
    again = slow.plan(observe(c, 200 * PERIOD_NS, 1), instruction=TASK)
    assert torch.equal(again.payload.k, first.payload.k)


def test_a_hundred_thousand_prefills_stay_bounded_and_leave_no_trace(bundle: Bundle) -> None:
    """Every 500th prefill is real; between them the real keys and values circulate through the memory.

    At the end, a planner that has run for all that time and one that is given the same recent past answer the same
    image with the same numbers.
    """
    c = bundle.contract
    old = planner(bundle)
    rolling = old.memory
    contexts = run(bundle, 0, [0, 70, 140])
    pool = [(kv.payload.k, kv.payload.v) for kv in contexts]
    recent: list[MemoryEntry] = []
    limit = (tiny().memory_window + 1) * tiny().memory_spacing_rows // tiny().temporal_stride
    largest = 0.0
    for i in range(PREFILLS):
        stamp = i * PREFILL_ROWS * PERIOD_NS
        if i % 500 == 0:
            context = old.plan(observe(c, stamp, i % 7), instruction=TASK)
            largest = max(largest, float(context.payload.v.abs().max()))
            recent.clear()
            continue
        view = rolling.view(stamp)
        assert len(view.entries) <= WINDOW
        assert 0 <= view.own_position <= limit
        made = MemoryEntry(stamp, *pool[i % 3])
        # A planner that starts with an admitted entry makes the same choices from then on.
        if rolling.admit(made) or recent:
            recent.append(made)
    assert largest < 1e3
    young = planner(bundle)
    young.plan(observe(c, 0, 0), instruction=TASK)
    young.memory.clear()
    for made in recent:
        young.memory.view(made.stamp_ns)
        young.memory.admit(made)
    stamp = PREFILLS * PREFILL_ROWS * PERIOD_NS
    a = old.plan(observe(c, stamp, 5), instruction=TASK)
    b = young.plan(observe(c, stamp, 5), instruction=TASK)
    assert len(rolling.view(stamp).entries) == WINDOW
    assert torch.equal(a.payload.k, b.payload.k)
    assert torch.equal(a.payload.v, b.payload.v)
