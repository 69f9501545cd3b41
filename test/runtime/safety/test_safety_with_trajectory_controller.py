# SPDX-License-Identifier: Apache-2.0
"""The safety cycle's rolling trajectories, through the twin of joint_trajectory_controller, to the arm."""

from __future__ import annotations

import numpy as np
import pytest
from trajectory_loop import LATENCIES_MS, MS, Loop, speeds

from wam.core.verdict import Ladder
from wam.runtime.safety.mailbox import Retreated


@pytest.mark.parametrize("robot", ["franka", "ur5e_inspire"])
def test_trajectories_that_replace_each_other_are_one_motion(robot: str) -> None:
    """Every 40 ms a new trajectory arrives, 1 to 14 ms late; the arm must not notice the seams."""
    loop = Loop(robot)
    positions = loop.run(4.0)
    limit = np.array([joint.velocity for joint in loop.arm.joints])
    assert np.all(speeds(positions) <= limit)
    assert np.ptp(positions, axis=0) == pytest.approx(np.full(loop.count, 0.6), abs=0.02)
    assert loop.cycle.ladder.rung is Ladder.NOMINAL
    assert not loop.controller.gave_up


def accelerations(positions: np.ndarray) -> np.ndarray:
    """Return |acceleration| of every joint from positions a millisecond apart, float64 [T-2, N] [rad/s^2]."""
    return np.abs(np.diff(positions, 2, axis=0)) * 1e6


@pytest.mark.parametrize("latencies_ms", [LATENCIES_MS, (0, 20), (3, 3, 3, 3, 33, 3, 3)])
def test_delivery_that_varies_asks_for_no_more_acceleration_than_the_arm_has(
    latencies_ms: tuple[int, ...],
) -> None:
    """A first point 40 ms after sending: a delivery that varied by 13 ms made the controller accelerate the FR3's
    joints at 52 rad/s^2, by 20 ms at 131 rad/s^2, since it took up each shift within those 40 ms. Hardware has 10.
    With the variation in the robot file (`safety.delivery_jitter`) the first point lies as far ahead as it must."""
    peak = accelerations(Loop("franka", latencies_ms=latencies_ms).run(2.0)).max()
    assert peak < 8.0
    hasty = accelerations(Loop("franka", latencies_ms=latencies_ms, expected=False).run(1.0)).max()
    assert hasty > 40.0


def test_started_at_the_measured_state_each_trajectory_begins_with_a_step() -> None:
    """Why the controllers' files set interpolate_from_desired_state: this is the controller's own default."""
    steps = speeds(Loop("ur5e_inspire", desired=False).run(2.0)).max()
    assert steps > 10 * speeds(Loop("ur5e_inspire").run(2.0)).max()


@pytest.mark.parametrize("robot", ["franka", "ur5e_inspire"])
def test_without_chunks_the_arm_comes_to_rest_and_stays(robot: str) -> None:
    loop = Loop(robot)
    positions = loop.run(3.0, chunks_until=1.5)
    assert loop.cycle.ladder.rung is Ladder.HOLD
    assert speeds(positions[-300:]).max() < 1e-3


def test_a_safety_process_that_dies_leaves_a_trajectory_that_ends_at_rest() -> None:
    loop = Loop("franka")
    loop.run(1.6)
    moving = speeds(np.array(loop.reference[-50:])).max()
    assert moving > 0.1
    for _ in range(2000):
        loop.now_ns += MS
        loop.reference.append(loop.controller.advance(MS, loop.measured[: loop.count]))
    positions = np.array(loop.reference)
    assert speeds(positions[-500:]).max() < 1e-9
    assert speeds(positions).max() <= max(joint.velocity for joint in loop.arm.joints)


def after(robot: str, offset_ms: int, *, what: str) -> np.ndarray:
    """Return the controller's positions from the moment on at which something happens, float64 [T, N].

    Args:
        robot: name of the robot file.
        offset_ms: by how much that comes after a moment of fast motion.
        what: "nothing", "estop", or "killed": the safety process dies.
    """
    loop = Loop(robot)
    loop.run(2.5 + offset_ms * 1e-3)
    begun = len(loop.reference)
    if what == "killed":
        for _ in range(2000):
            loop.now_ns += MS
            loop._control()
    elif what == "estop":
        loop.cycle.estop()
        loop.run(2.0, chunks_until=0.0)
    else:
        loop.run(0.3)
    return np.array(loop.reference)[begun - 1 :]


def rest_ms(positions: np.ndarray) -> int:
    """Return after how many milliseconds the arm is at rest."""
    return int(np.flatnonzero(speeds(positions).max(axis=1) > 1e-3)[-1] + 1)


@pytest.mark.parametrize("robot", ["franka", "ur5e_inspire"])
def test_a_stop_reaches_a_trajectory_controller_at_once(robot: str) -> None:
    """The deceleration began up to 147 ms after an emergency stop, and killing the process stopped a UR sooner."""
    for offset_ms in range(0, 45, 6):
        going, stopped, abandoned = (
            after(robot, offset_ms, what=what) for what in ("nothing", "estop", "killed")
        )
        assert speeds(going)[0].max() > 0.4
        begins = int(np.argmax(np.abs(going[:250] - stopped[:250]).max(axis=1) > 1e-6))
        assert 0 < begins <= 60
        assert rest_ms(stopped) <= rest_ms(abandoned)
        print(robot, offset_ms, begins, rest_ms(stopped), rest_ms(abandoned))


@pytest.mark.parametrize("robot", ["franka", "ur5e_inspire"])
def test_an_arm_that_was_pushed_is_cleared_and_commands_come_to_where_it_is(robot: str) -> None:
    """The finding that was cleared stayed the cause of the hold, and stopped the arm again at the next tick."""
    loop = Loop(robot)
    loop.run(1.0)
    cycle, settings = loop.cycle, loop.settings

    def ticks(count: int, measured: np.ndarray) -> list[np.ndarray]:
        commands = []
        for _ in range(count):
            loop.now_ns, loop.wall_ns = loop.now_ns + settings.tick_ns, loop.wall_ns + settings.tick_ns
            start = 0
            for group in loop.robot.groups:
                stop = start + len(group.joints)
                cycle.offer_state(group.name, stamp_ns=loop.now_ns, positions=measured[start:stop])
                start = stop
            position = cycle.step(loop.now_ns).position
            commands += [] if position is None else [position]
        return commands

    ticks(200, loop.home)
    pushed = cycle.position + 1.25 * loop.robot.safety.tracking_error * (np.arange(len(loop.home)) == 1)
    ticks(50, pushed)
    assert cycle.ladder.code == "tracking_error"
    cycle.clear_fault()
    commands = np.array(ticks(700, pushed))
    assert cycle.ladder.rung is Ladder.HOLD, cycle.ladder.cause
    np.testing.assert_allclose(commands[-1], pushed, atol=1e-6)
    limit = loop.robot.limits().velocity
    assert np.all(np.abs(np.diff(commands, axis=0)) <= 0.11 * limit * settings.tick_ns * 1e-9)


def asleep(loop: Loop, ms: int) -> None:
    """Let time pass without a step: the controller plays what it has."""
    for _ in range(ms):
        loop.now_ns, loop.wall_ns = loop.now_ns + MS, loop.wall_ns + MS
        loop._control()


@pytest.mark.parametrize("robot", ["franka", "ur5e_inspire"])
@pytest.mark.parametrize("ms", [60, 120, 200, 400])
def test_after_a_silence_commands_go_on_where_the_controller_has_taken_the_arm(robot: str, ms: int) -> None:
    """The command thread slept while the controller went on along its trajectory: commands that began at the last one
    before would draw the arm back, and those that began at rest where it was measured stopped it within 40 ms, with 33
    times the acceleration that it may have."""
    loop = Loop(robot)
    loop.run(2.52)
    before = loop.reference[-1]
    asleep(loop, ms)
    assert np.abs(loop.reference[-1] - before).max() > 0.01, "the controller has gone on"
    loop.run(0.8)
    limit = np.array([joint.acceleration for joint in loop.arm.joints])
    assert np.all(accelerations(np.array(loop.reference[-900 - ms :])) < 1.25 * limit)


@pytest.mark.parametrize(("ms", "set_ms"), [(60, -60), (90, -60_000), (300, 60_000)])
def test_a_clock_that_was_set_during_a_silence_draws_no_controller_back(ms: int, set_ms: int) -> None:
    """The way of the controller was counted by the clock: set back by 60 ms while the thread slept for 60 ms, commands
    began 36 mrad behind those of a clock that was not set, and after a jump where they had been before the silence."""

    def begins(set_ms: int) -> np.ndarray:
        loop = Loop("ur5e_inspire")
        loop.run(0.92)
        asleep(loop, ms)
        loop.now_ns, loop.start_ns = loop.now_ns + set_ms * MS, loop.start_ns + set_ms * MS
        loop._tick(1)
        return loop.cycle.position[: loop.count]

    assert np.abs(begins(set_ms) - begins(0)).max() < 5e-3


@pytest.mark.parametrize("robot", ["franka", "ur5e_inspire"])
@pytest.mark.parametrize("ms", [60, 230, 480])
def test_after_a_short_silence_at_rest_commands_stay_where_they_were(robot: str, ms: int) -> None:
    """A sensor 2.3 mrad off drew a resting arm there within a tick: 11 times the acceleration that it may have."""
    loop = Loop(robot)
    loop.run(2.0, chunks_until=1.0)
    assert loop.cycle.standing
    before = loop.cycle.position.copy()
    asleep(loop, ms)
    loop.jogged = np.full(loop.count, 0.0023)
    loop._tick(1)
    np.testing.assert_array_equal(loop.cycle.position, before)


def test_after_a_long_silence_commands_begin_where_the_arm_is() -> None:
    loop = Loop("franka", start_by_itself=False)
    loop.run(0.32)
    loop.cycle.resume()
    loop.run(1.2)
    asleep(loop, 3000)
    loop.jogged = np.full(loop.count, 0.05)
    loop._tick(1)
    np.testing.assert_allclose(loop.cycle.position[: loop.count], loop.measured[: loop.count], atol=1e-9)
    assert loop.cycle.ladder.code in ("command_gap", "awaiting_resume")
    loop.run(0.4)
    assert loop.cycle.ladder.code == "awaiting_resume"


class ReportingLoop(Loop):
    """The same with a controller that reports its reference, `off` [rad] from where it is."""

    off = 0.0

    def _tick(self, ticks: int) -> None:
        if self.reference:
            led = self.reference[-1] + self.off
            self.cycle.offer_reference("arm", stamp_ns=self.now_ns, positions=led)
        super()._tick(ticks)


@pytest.mark.parametrize("name", ["ur5e_inspire", "franka"])
def test_a_retreat_is_a_trajectory_that_the_controller_follows_slowly(name: str) -> None:
    loop = ReportingLoop(name)
    loop.run(2.0, chunks_until=1.5)
    loop.run(1.0, chunks_until=0.0)
    assert loop.cycle.standing
    answers: list[Retreated] = []
    loop.cycle.retreat(answers.append)
    start = len(loop.reference)
    came = np.array(loop.reference)
    path = loop.run(12.0, chunks_until=0.0)[start:]
    assert answers[0].moved, answers[0].text
    assert np.abs(path[-1] - path[0]).max() > 0.1
    assert max(np.abs(came - row).max(axis=1).min() for row in path[::50]) < 5e-3
    assert speeds(path).max() < 0.3 * speeds(came).max()
    assert speeds(path)[-100:].max() < 1e-3


def test_a_controller_that_has_begun_anew_is_not_drawn_back_to_its_last_command() -> None:
    """It was switched off and on: its reference is where the arm is, and the way back begins elsewhere."""
    loop = ReportingLoop("franka")
    loop.run(2.0, chunks_until=1.5)
    loop.run(1.0, chunks_until=0.0)
    loop.off = 0.05
    answers: list[Retreated] = []
    loop.cycle.retreat(answers.append)
    loop.run(0.1, chunks_until=0.0)
    assert not answers[0].moved
    assert "allowed 0.01" in answers[0].text
    assert "~/clear_fault" in answers[0].text
