# SPDX-License-Identifier: Apache-2.0
"""The executor's cycle: newest context, newest image, one numbered chunk, or a named reason for silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from wam.core.chunk import ActionChunk
from wam.core.context import ContextHandle, ContextHeader, PlannerContext
from wam.core.contract import CameraContract, PolicyContract
from wam.core.errors import ContractMismatch, PolicyFault, StageFailed, StaleObservation, UndecodableChunk
from wam.core.fakes import FakeChannel, FakeExecutor, FakePlanner, ImaginingExecutor, fake_contract
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.core.policy import Committed
from wam.runtime.executor import ExecutorCycle

JOINTS = ("a", "b")
PERIOD_NS = 10_000_000
CONTRACT = fake_contract(
    joint_names=JOINTS, cameras=(CameraContract("head", 4, 6),), control_period_ns=PERIOD_NS
)


def observation(stamp_ns: int) -> Observation:
    frame = CameraFrame("head", stamp_ns, np.full((4, 6, 3), 100, dtype=np.uint8))
    return Observation(stamp_ns, {"head": frame}, RobotState(stamp_ns, JOINTS, np.zeros(2), np.zeros(2)))


class Spoiled(FakeExecutor):
    """Executor whose chunks pass through a function of the test."""

    def __init__(self, spoil: Callable[[ActionChunk], ActionChunk]) -> None:
        super().__init__(CONTRACT)
        self._spoil = spoil

    def act(self, routed: Any, *, proprio: RobotState) -> ActionChunk:
        return self._spoil(super().act(routed, proprio=proprio))


class Bench:
    """A cycle over fakes whose observation the test sets."""

    def __init__(
        self,
        executor: FakeExecutor | None = None,
        *,
        max_age_ns: int = 10**9,
        contract: PolicyContract = CONTRACT,
    ) -> None:
        self.channel = FakeChannel()
        self.planner = FakePlanner(CONTRACT)
        self.stamp_ns: int | None = 100 * PERIOD_NS
        self.cycle = ExecutorCycle(
            contract=contract,
            executor=executor or FakeExecutor(CONTRACT),
            reader=self.channel,
            observe=self.observe,
            max_context_age_ns=max_age_ns,
        )

    def observe(self, now_ns: int) -> Observation:
        if self.stamp_ns is None:
            raise StaleObservation("camera head", value="nothing yet")
        return observation(self.stamp_ns)

    def plan(self, stamp_ns: int, *, generation: int = 1) -> tuple[ContextHeader, ContextHandle]:
        context: PlannerContext[Any] = self.planner.plan(
            observation(stamp_ns), instruction=Instruction("wave", generation)
        )
        return context.header, self.channel.publish(context)

    def offer(self, stamp_ns: int, *, generation: int = 1) -> ContextHeader:
        header, handle = self.plan(stamp_ns, generation=generation)
        self.cycle.offer_context(header, handle)
        return header

    def chunk(self) -> ActionChunk:
        result = self.cycle.step(self.stamp_ns or 0)
        assert result.chunk is not None, result.reason
        return result.chunk


def test_before_the_first_context_the_cycle_says_why_it_is_silent() -> None:
    result = Bench().cycle.step(0)
    assert result.chunk is None
    assert result.reason == "no planner context yet"


def test_the_phase_offset_comes_from_stamps_not_from_the_number_of_calls() -> None:
    """A chunk indexed by call count replays the past after a late call."""
    bench = Bench()
    bench.offer(100 * PERIOD_NS)
    bench.stamp_ns = 107 * PERIOD_NS
    chunk = bench.chunk()
    assert chunk.phase_offset_rows == 7
    assert chunk.context_age_ns == 7 * PERIOD_NS
    assert chunk.stamp_ns == 107 * PERIOD_NS
    assert chunk.sequence == 1


def test_one_image_gives_one_chunk() -> None:
    bench = Bench()
    bench.offer(100 * PERIOD_NS)
    bench.chunk()
    assert bench.cycle.step(0).reason == "no newer image"
    bench.stamp_ns = 101 * PERIOD_NS
    assert bench.chunk().sequence == 2


def test_rows_that_the_policy_wants_executed_come_before_the_next_chunk() -> None:
    """A policy that was asked for a chunk with every image began its wait anew with each, and never went on."""
    bench = Bench(contract=replace(CONTRACT, execute_rows=3))
    bench.offer(100 * PERIOD_NS)
    bench.chunk()
    for rows in (1, 2):
        bench.stamp_ns = (100 + rows) * PERIOD_NS
        assert bench.cycle.step(0).reason.startswith("rows of the last chunk are executed first")
        assert bench.cycle.waits_for == ""
    bench.stamp_ns = 103 * PERIOD_NS
    assert bench.chunk().sequence == 2
    # A new generation begins at once: the rows of the old one are not executed any more.
    bench.stamp_ns = 104 * PERIOD_NS
    bench.offer(104 * PERIOD_NS, generation=2)
    assert bench.chunk().generation == 2


def test_a_newer_context_replaces_the_older_one_and_gives_its_lease_back() -> None:
    bench = Bench()
    bench.offer(100 * PERIOD_NS)
    bench.chunk()
    bench.stamp_ns = 105 * PERIOD_NS
    bench.offer(104 * PERIOD_NS)
    assert bench.chunk().context_version == 2
    assert bench.channel.released == ["fake.1.1"]
    assert bench.channel.leases() == 1


def test_contexts_out_of_order_never_go_back_in_time() -> None:
    bench = Bench()
    older, newer = bench.plan(100 * PERIOD_NS), bench.plan(104 * PERIOD_NS)
    bench.stamp_ns = 105 * PERIOD_NS
    bench.cycle.offer_context(*newer)
    bench.cycle.offer_context(*older)
    assert bench.chunk().context_version == 2
    bench.cycle.offer_context(*older)
    bench.stamp_ns = 106 * PERIOD_NS
    assert bench.chunk().context_version == 2


def test_a_restarted_planner_that_counts_from_one_again_is_followed() -> None:
    bench = Bench()
    for stamp in (100, 101, 102):
        bench.offer(stamp * PERIOD_NS)
    bench.stamp_ns = 103 * PERIOD_NS
    assert bench.chunk().context_version == 3
    bench.channel.retire()
    bench.planner.version = 0
    bench.stamp_ns = 110 * PERIOD_NS
    bench.offer(109 * PERIOD_NS)
    assert bench.chunk().context_version == 1


def test_a_context_whose_planner_has_gone_is_not_used() -> None:
    bench = Bench()
    bench.offer(100 * PERIOD_NS)
    bench.chunk()
    bench.channel.retire()
    bench.stamp_ns = 101 * PERIOD_NS
    result = bench.cycle.step(0)
    assert result.chunk is None
    assert "planner context is gone" in result.reason


def test_a_context_older_than_its_budget_is_refused_by_name() -> None:
    bench = Bench(max_age_ns=20 * PERIOD_NS)
    bench.offer(100 * PERIOD_NS)
    bench.stamp_ns = 121 * PERIOD_NS
    assert "planner context is too old for the newest image: got '210 ms'" in bench.cycle.step(0).reason


def test_the_horizon_limits_the_age_whatever_the_parameter_says() -> None:
    bench = Bench(max_age_ns=10**12)
    bench.offer(0)
    bench.stamp_ns = (CONTRACT.horizon_rows + 1) * PERIOD_NS
    assert bench.cycle.step(0).chunk is None


def test_a_context_of_another_policy_is_refused_by_name_and_the_one_at_hand_stays() -> None:
    """It was stored, and the cycle then ended with an error that only a new activation cured."""
    bench = Bench()
    header, handle = bench.plan(100 * PERIOD_NS)
    bench.cycle.offer_context(header, handle)
    with pytest.raises(
        ContractMismatch, match="executor has contract ffffffffffff, planner context has bbbb"
    ):
        bench.cycle.offer_context(
            dataclasses.replace(header, contract_hash="b" * 64, version=header.version + 1), handle
        )
    bench.stamp_ns = 100 * PERIOD_NS
    assert bench.cycle.step(0).chunk is not None


def test_a_non_finite_row_never_leaves_the_cycle() -> None:
    def spoil(chunk: ActionChunk) -> ActionChunk:
        rows = np.array(chunk.rows)
        rows[3, 1] = np.nan
        return replace(chunk, rows=rows)

    bench = Bench(Spoiled(spoil))
    bench.offer(100 * PERIOD_NS)
    with pytest.raises(PolicyFault, match="non-finite target for b in row 3"):
        bench.cycle.step(0)


def test_a_chunk_with_other_joints_is_refused() -> None:
    def swap(chunk: ActionChunk) -> ActionChunk:
        return dataclasses.replace(chunk, joint_names=("b", "a"))

    bench = Bench(Spoiled(swap))
    bench.offer(100 * PERIOD_NS)
    with pytest.raises(PolicyFault, match="other joints than its contract"):
        bench.cycle.step(0)


def test_a_new_generation_restarts_the_numbering() -> None:
    bench = Bench()
    bench.offer(100 * PERIOD_NS)
    bench.chunk()
    bench.stamp_ns = 101 * PERIOD_NS
    bench.offer(101 * PERIOD_NS, generation=2)
    chunk = bench.chunk()
    assert (chunk.generation, chunk.sequence) == (2, 1)


def test_close_gives_the_lease_back() -> None:
    bench = Bench()
    bench.offer(100 * PERIOD_NS)
    bench.chunk()
    bench.cycle.close()
    assert bench.channel.leases() == 0
    assert bench.cycle.step(0).reason == "no planner context yet"


def test_what_the_policy_expects_to_see_is_offered_beside_the_chunk_and_not_decoded() -> None:
    bench = Bench(ImaginingExecutor(CONTRACT))
    assert bench.cycle.imagines
    assert bench.cycle.imagination is None
    bench.offer(bench.stamp_ns)
    chunk = bench.chunk()
    imagination = bench.cycle.imagination
    assert imagination.target_stamp_ns == chunk.stamp_ns + len(chunk.rows) * PERIOD_NS
    assert imagination.decoded == []
    frame = imagination.frame("head")
    assert (frame.stamp_ns, frame.rgb.shape) == (imagination.target_stamp_ns, (4, 6, 3))


def test_a_policy_without_pictures_expects_nothing() -> None:
    bench = Bench()
    bench.offer(bench.stamp_ns)
    bench.chunk()
    assert not bench.cycle.imagines
    assert bench.cycle.imagination is None


def test_a_chunk_that_is_no_action_is_left_out_and_the_next_one_comes() -> None:
    """One badly drawn chunk must not end the run: the safety node holds until a good one comes."""
    outcomes = [UndecodableChunk("the sampled tokens do not decode to an action"), None]

    def spoil(chunk: ActionChunk) -> ActionChunk:
        error = outcomes.pop(0)
        if error is not None:
            raise error
        return chunk

    bench = Bench(Spoiled(spoil))
    bench.offer(bench.stamp_ns)
    result = bench.cycle.step(bench.stamp_ns)
    assert result.chunk is None
    assert result.reason == "the sampled tokens do not decode to an action"
    assert bench.cycle.skipped == 1
    bench.stamp_ns += PERIOD_NS
    assert bench.chunk().sequence == 1


def test_a_stage_whose_backend_fails_costs_one_chunk_and_is_told() -> None:
    """Its error ended the worker: the robot stood until somebody came."""
    outcomes = [StageFailed("stage denoise failed on backend onnxruntime (gone)", stage="denoise"), None]

    def spoil(chunk: ActionChunk) -> ActionChunk:
        error = outcomes.pop(0)
        if error is not None:
            raise error
        return chunk

    bench = Bench(Spoiled(spoil))
    bench.offer(bench.stamp_ns)
    result = bench.cycle.step(bench.stamp_ns)
    assert (result.chunk, bench.cycle.skipped) == (None, 1)
    assert result.reason == bench.cycle.failed_stages["denoise"]
    assert bench.chunk().sequence == 1
    assert bench.cycle.waits_for == ""


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_the_time_of_a_wave_passes_at_the_pace_of_the_robot(share: float) -> None:
    """At a slider of 10 % the wave ran away from the arm, which was held for the jump."""
    bench = Bench()
    assert bench.cycle.paced
    bench.offer(100 * PERIOD_NS)
    rows = bench.chunk().rows[:, 0]
    bench.cycle.pace = share
    bench.stamp_ns = 108 * PERIOD_NS
    assert bench.chunk().rows[0, 0] == pytest.approx(rows[round(8 * share)])


def test_a_fake_with_a_centre_begins_where_the_robot_is_and_comes_to_the_centre() -> None:
    """Executors that were started one after another each waved about where the last one had been stopped."""
    centre = np.array([1.0, -1.0])
    fake = FakeExecutor(CONTRACT, amplitude=0.2, centre=centre, approach=2.0)
    planner = FakePlanner(CONTRACT)

    def act(seconds: int) -> ActionChunk:
        seen = observation(1 + seconds * 10**9)
        context = planner.plan(seen, instruction=Instruction("go", 0))
        return fake.act(fake.route(seen, context=context), proprio=seen.state)

    first = act(0)
    assert first.rows[0] == pytest.approx(np.zeros(2))
    assert np.abs(np.diff(first.rows, axis=0)).max() < 1.0 * PERIOD_NS * 1e-9
    assert np.abs(act(30).rows - centre).max() < 0.2 + 1e-6


class Continued(FakeExecutor):
    """Executor that keeps what it was told to continue."""

    def __init__(self) -> None:
        super().__init__(CONTRACT)
        self.told: list[Committed | None] = []

    def continue_from(self, committed: Committed | None) -> None:
        self.told.append(committed)


def test_a_policy_that_continues_chunks_is_told_what_is_executed_until_it_takes_over() -> None:
    executor = Continued()
    bench = Bench(executor)
    bench.offer(100 * PERIOD_NS)
    first = bench.chunk()
    assert executor.told == [None]
    # 25 ms of delay at 10 ms per row: three rows are executed before a later chunk can take over.
    bench.cycle.sent(first, at_ns=first.stamp_ns + 25_000_000)
    bench.stamp_ns = 104 * PERIOD_NS
    bench.chunk()
    told = executor.told[-1]
    assert told is not None
    rows = len(first.rows)
    assert (told.fixed, told.covered) == (3, rows - 4)
    np.testing.assert_allclose(told.rows[: rows - 4], first.rows[4:])
    np.testing.assert_allclose(told.rows[rows - 4 :], np.tile(first.rows[-1], (4, 1)))


def test_nothing_is_continued_across_tasks_or_when_the_last_chunk_has_run_out() -> None:
    executor = Continued()
    bench = Bench(executor)
    bench.offer(100 * PERIOD_NS)
    first = bench.chunk()
    bench.cycle.sent(first, at_ns=first.stamp_ns)
    bench.stamp_ns = (100 + len(first.rows)) * PERIOD_NS
    bench.offer(bench.stamp_ns)
    bench.chunk()
    assert executor.told[-1] is None
    bench.cycle.sent(bench.cycle.last_chunk or first, at_ns=bench.stamp_ns)
    bench.stamp_ns += PERIOD_NS
    bench.offer(bench.stamp_ns, generation=2)
    bench.chunk()
    assert executor.told[-1] is None
