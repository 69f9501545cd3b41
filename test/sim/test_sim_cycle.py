# SPDX-License-Identifier: Apache-2.0
"""The simulated robot's cycle: time from an injected clock, commands by the driver's rules, feedback with stamps."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.devices.jtc import Trajectory, TrajectoryPoint
from wam.devices.loader import load_robot
from wam.robots.description import CommandKind
from wam.sim.cycle import MAX_BACKLOG_NS, Command, SimCycle
from wam.sim.world import SimWorld, WorldDiverged

pytestmark = pytest.mark.sim

PIPER = load_robot("piper")
LEFT = PIPER.group("left")
HOME = [joint.home for joint in LEFT.joints]
TICK_NS = 5 * NS_PER_MS
T0 = 1000 * NS_PER_S


class Run:
    """A cycle and a clock."""

    def __init__(self) -> None:
        self.world = SimWorld(PIPER)
        self.cycle = SimCycle(PIPER, self.world)
        self.now_ns = T0
        self.last = self.cycle.step(self.now_ns)

    def tick(self, count: int = 1, by_ns: int = TICK_NS) -> Run:
        for _ in range(count):
            self.now_ns += by_ns
            self.last = self.cycle.step(self.now_ns)
        return self

    def left(self) -> tuple[float, ...]:
        return self.last.outputs["left"].feedback.positions


def command(*positions: float) -> Command:
    return Command(LEFT.driver_names, positions, (), ())


def test_physics_follow_the_clock_in_whole_steps() -> None:
    run = Run()
    assert run.tick().world.time == pytest.approx(0.004)
    assert run.last.stamp_ns == T0 + 4 * NS_PER_MS
    assert run.tick().world.time == pytest.approx(0.010)
    assert run.last.stamp_ns == T0 + 10 * NS_PER_MS


def test_nothing_is_published_twice_when_no_step_was_due() -> None:
    run = Run().tick()
    assert run.tick(by_ns=NS_PER_MS // 2).last.outputs == {}


def test_the_first_cycle_publishes_nothing_and_sets_the_start() -> None:
    run = Run()
    assert run.last.outputs == {}
    assert run.world.time == 0.0


def test_a_command_moves_its_arm_and_is_echoed() -> None:
    run = Run()
    run.cycle.offer_command("left", command(0.3, *HOME[1:]))
    run.tick(200)
    assert run.left()[0] == pytest.approx(0.3, abs=2e-3)
    assert run.last.outputs["right"].feedback.positions[0] == pytest.approx(0.0, abs=2e-3)
    assert run.last.outputs["left"].echo.positions[0] == 0.3


def test_of_several_commands_between_two_cycles_the_newest_counts() -> None:
    run = Run()
    run.cycle.offer_command("left", command(0.9, *HOME[1:]))
    run.cycle.offer_command("left", command(0.1, *HOME[1:]))
    assert run.tick().last.outputs["left"].echo.positions[0] == 0.1


def test_a_command_that_cannot_be_read_is_reported_and_the_arm_holds() -> None:
    run = Run()
    run.cycle.offer_command("left", command(math.nan, *HOME[1:]))
    (error,) = run.tick().last.refused
    assert "command of group 'left'" in str(error)
    assert run.tick(20).left() == pytest.approx(HOME, abs=2e-3)
    assert run.last.refused == ()


def test_a_disabled_arm_falls_and_ignores_the_command_of_the_same_cycle() -> None:
    run = Run()
    run.cycle.offer_enable("left", False)
    run.cycle.offer_command("left", command(0.5, *HOME[1:]))
    run.tick(200)
    assert abs(run.left()[0]) < 0.2
    assert run.world.body_position("left_tcp")[2] < 0.12
    run.cycle.offer_enable("left", True)
    held = run.tick().left()
    assert run.tick(100).left() == pytest.approx(held, abs=0.05)


@pytest.mark.parametrize("name", ["franka", "ur5e_inspire", "piper"])
def test_the_same_seed_and_commands_give_bit_identical_joint_states(name: str) -> None:
    robot = load_robot(name)

    def states() -> list[tuple[float, ...]]:
        cycle, now_ns, seen = SimCycle(robot, SimWorld(robot, seed=9)), T0, []
        cycle.step(now_ns)
        for tick in range(100):
            if tick % 20 == 0:
                for group in robot.groups:
                    goal = [joint.home + 0.002 * tick * (joint.kind.unit == "rad") for joint in group.joints]
                    if group.command_kind is CommandKind.JOINT_TRAJECTORY:
                        point = TrajectoryPoint(NS_PER_S // 10, goal, [0.0] * len(goal))
                        cycle.offer_command(group.name, Trajectory(group.driver_names, [point]))
                    else:
                        cycle.offer_command(group.name, Command(group.driver_names, goal, (), ()))
            now_ns += TICK_NS
            outputs = cycle.step(now_ns).outputs
            seen += [output.feedback.positions + output.feedback.velocities for output in outputs.values()]
        return seen

    assert states() == states()


def test_a_diverged_world_ends_the_run_with_a_named_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log into the working directory
    run = Run().tick(2)
    run.world.model.opt.gravity[2] = -1e12
    with pytest.raises(WorldDiverged, match=r"in joint \w+\) near t = 0\.0"):
        run.tick(20)


def test_a_long_pause_is_lost_time_and_not_a_burst() -> None:
    run = Run().tick(10)
    before = run.world.time
    run.tick(by_ns=NS_PER_S)
    assert run.world.time - before == pytest.approx(MAX_BACKLOG_NS / NS_PER_S)
    assert run.cycle.lost_ns == pytest.approx(0.9 * NS_PER_S, abs=2 * NS_PER_MS)
    assert run.last.stamp_ns <= run.now_ns
    assert run.cycle.realtime_factor() < 0.2


def test_in_step_with_the_clock_the_real_time_factor_is_one() -> None:
    run = Run()
    assert math.isnan(run.cycle.realtime_factor())
    assert run.tick(400).cycle.realtime_factor() == pytest.approx(1.0, abs=2e-3)


def test_a_clock_that_goes_back_starts_anew_without_moving_the_world() -> None:
    run = Run().tick(10)
    before = run.world.time
    run.now_ns -= 10 * NS_PER_S
    assert run.tick(by_ns=0).last.outputs == {}
    assert run.world.time == before
    assert run.tick().world.time == pytest.approx(before + 0.004)


def test_a_snapshot_has_the_stamp_of_the_simulated_state() -> None:
    run = Run().tick(3)
    snapshot = run.cycle.snapshot()
    assert snapshot is not None
    assert snapshot.stamp_ns == run.last.stamp_ns == T0 + 14 * NS_PER_MS


def test_before_the_first_cycle_there_is_no_snapshot() -> None:
    assert SimCycle(PIPER, SimWorld(PIPER)).snapshot() is None


def test_snapshots_and_commands_may_come_from_other_threads() -> None:
    run, stop, failures = Run(), threading.Event(), []

    def other() -> None:
        while not stop.is_set():
            run.cycle.offer_command("left", command(0.2, *HOME[1:]))
            snapshot = run.cycle.snapshot()
            if snapshot is None or not np.all(np.isfinite(snapshot.qpos)):
                failures.append(snapshot)

    threads = [threading.Thread(target=other) for _ in range(3)]
    for thread in threads:
        thread.start()
    run.tick(100)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_cycle_and_the_world_need_no_rclpy() -> None:
    code = "import sys, wam.sim.cycle\nprint(sorted(m for m in ('rclpy', 'torch') if m in sys.modules))"
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert result.stdout.strip() == "[]"
