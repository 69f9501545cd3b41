# SPDX-License-Identifier: Apache-2.0
"""The planner's cycle: one context per new image, generations, named reasons for silence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wam.core.contract import CameraContract, PolicyContract
from wam.core.errors import ContractMismatch, InputError, StageFailed, StaleObservation
from wam.core.fakes import FakeChannel, FakePlanner, fake_contract
from wam.core.observation import CameraFrame, Observation, RobotState
from wam.runtime.planner import PlannerCycle

JOINTS = ("a", "b")


def observation(stamp_ns: int) -> Observation:
    frame = CameraFrame("head", stamp_ns, np.full((4, 6, 3), 100, dtype=np.uint8))
    return Observation(stamp_ns, {"head": frame}, RobotState(stamp_ns, JOINTS, np.zeros(2), np.zeros(2)))


class Bench:
    """A cycle over fakes whose observation and stopwatch the test sets."""

    def __init__(self) -> None:
        self.contract: PolicyContract = fake_contract(
            joint_names=JOINTS, cameras=(CameraContract("head", 4, 6),)
        )
        self.planner = FakePlanner(self.contract)
        self.channel = FakeChannel()
        self.stamp_ns: int | None = 100
        self._readings = iter(range(0, 10**9, 1_000_000))
        self.cycle = PlannerCycle(
            contract=self.contract,
            planner=self.planner,
            publisher=self.channel,
            observe=self.observe,
            instruction="put the plate away",
            stopwatch=lambda: next(self._readings),
        )

    def observe(self, now_ns: int) -> Observation:
        if self.stamp_ns is None:
            raise StaleObservation("camera head", value="nothing yet")
        return observation(self.stamp_ns)


def test_a_new_image_gives_a_context_with_its_stamp_and_the_time_it_took() -> None:
    bench = Bench()
    result = bench.cycle.step(110)
    assert result.header is not None
    assert result.handle is not None
    assert (result.header.stamp_ns, result.header.generation, result.header.version) == (100, 1, 1)
    assert result.header.plan_ns == 1_000_000
    assert result.header.instruction == "put the plate away"
    assert bench.channel.get(result.handle.name).header == result.header


def test_the_same_image_is_not_planned_twice() -> None:
    bench = Bench()
    bench.cycle.step(110)
    result = bench.cycle.step(120)
    assert result.header is None
    assert result.reason == "no newer image"
    assert bench.planner.version == 1


def test_silence_of_a_stream_is_a_named_reason_not_an_error() -> None:
    bench = Bench()
    bench.stamp_ns = None
    assert "camera head" in bench.cycle.step(110).reason
    bench.stamp_ns = 200
    assert bench.cycle.step(210).header is not None


def test_a_new_instruction_starts_a_generation_with_an_empty_memory() -> None:
    bench = Bench()
    bench.cycle.step(110)
    changed = bench.cycle.set_instruction("open the drawer")
    assert changed.generation == 2
    result = bench.cycle.step(120)
    assert result.header is not None
    assert (result.header.generation, result.header.version) == (2, 1)
    assert result.header.instruction == "open the drawer"
    assert bench.planner.resets == 1


def test_a_clock_that_goes_back_starts_a_generation_and_planning_goes_on() -> None:
    """A policy with a memory refuses older images: its planner ended for good when a bag was played again."""
    bench = Bench()
    bench.stamp_ns = 5000
    assert bench.cycle.step(5010).header is not None
    plan, reset = bench.planner.plan, bench.planner.reset
    newest = [5000]

    def remembering(observation: Observation, **named: Any) -> Any:
        if observation.stamp_ns < newest[0]:
            raise StaleObservation("the image is older than the planner's last one")
        newest[0] = observation.stamp_ns
        return plan(observation, **named)

    def forget() -> None:
        newest[0] = 0
        reset()

    bench.planner.plan, bench.planner.reset = remembering, forget  # type: ignore[method-assign]
    bench.stamp_ns = 100
    header = bench.cycle.step(110).header
    assert header is not None
    assert (header.stamp_ns, header.generation, header.version) == (100, 2, 1)
    assert header.instruction == "put the plate away"
    bench.stamp_ns = 200
    assert bench.cycle.step(210).header is not None
    assert bench.cycle.instruction.generation == 2


def test_an_empty_instruction_resets_and_keeps_the_words() -> None:
    bench = Bench()
    kept = bench.cycle.set_instruction("  ")
    assert (kept.text, kept.generation) == ("put the plate away", 2)


def test_a_refused_instruction_leaves_the_former_one_in_force() -> None:
    bench = Bench()
    with pytest.raises(
        InputError, match=r"instruction: got '300 characters'; allowed: 1 \.\. 256 characters"
    ):
        bench.cycle.set_instruction("x" * 300)
    assert (bench.cycle.instruction.text, bench.cycle.instruction.generation) == ("put the plate away", 1)


def test_a_planner_of_another_contract_is_refused() -> None:
    bench = Bench()
    other = fake_contract(joint_names=JOINTS, cameras=(CameraContract("head", 4, 6),), contract_hash="b" * 64)
    bench.cycle._planner = FakePlanner(other)
    with pytest.raises(ContractMismatch, match="planner node and planner's context"):
        bench.cycle.step(110)


def test_a_stage_whose_backend_fails_costs_one_context_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    plan = bench.planner.plan

    def fails(*_: Any, **__: Any) -> Any:
        monkeypatch.setattr(bench.planner, "plan", plan)
        raise StageFailed("stage planner_prefill failed on backend tensorrt (gone)", stage="planner_prefill")

    monkeypatch.setattr(bench.planner, "plan", fails)
    result = bench.cycle.step(110)
    assert (result.header, bench.cycle.published) == (None, 0)
    assert list(bench.cycle.failed_stages) == ["planner_prefill"]
    assert "failed on backend tensorrt" in bench.cycle.waits_for
    again = bench.cycle.step(120)
    assert again.header is not None
    assert (again.header.version, bench.cycle.waits_for) == (1, "")
