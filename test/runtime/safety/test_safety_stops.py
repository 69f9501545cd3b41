# SPDX-License-Identifier: Apache-2.0
"""Where a stop leaves the arm, and what it takes to move again, on injected time: no rclpy, no sleeps."""

from __future__ import annotations

import numpy as np
import pytest
from safety_world import ARM, HOME, LIMITS, MS, PERIOD, ROBOT, World, running

from wam.bench.attack.geometry import GeometryJudge
from wam.bench.attack.robot_file import read_judged_robot
from wam.core.ladder import finding
from wam.core.verdict import Finding, Ladder, Verdict
from wam.runtime.safety.filters import ChainOptions, build_speed_limits


@pytest.mark.parametrize("how", ["silence", "estop", "jump"])
def test_a_stop_stays_on_the_path_that_was_checked(how: str) -> None:
    """Joints that brake each on its own leave the path: arms that were checked against each other may meet."""
    world = World(chunk_timeout_ns=150 * MS)
    world.amplitude, world.frequency = 0.3, 0.3
    turn = np.linspace(0.2, 1.0, 14) * ARM
    world.rows = lambda stamp, count=16: (
        HOME
        + (  # type: ignore[method-assign]
            0.3
            * np.sin(2 * np.pi * 0.3 * (stamp - world.start_ns + np.arange(count) * PERIOD) * 1e-9)[:, None]
            * turn
        )
    )
    world.step(180)
    assert world.rung is Ladder.NOMINAL
    assert np.abs(world.cycle.velocity).max() > 0.3
    world.sending = False
    if how == "estop":
        world.cycle.estop()
    elif how == "jump":
        world.offer(world.chunk(world.rows(world.now_ns) + 0.5 * ARM))
    start = len(world.stream)
    world.measured = world.stream[-1]
    while not world.cycle.standing or world.rung < Ladder.HOLD:
        world.step()
        world.measured = world.stream[-1]
        assert len(world.stream) < start + 200
    # On the path all joints are in the proportion of `turn`, whatever the time.
    moved = np.array(world.stream[start:]) - HOME
    along = moved[:, [5]] / turn[5]
    np.testing.assert_allclose(moved[:, ARM > 0], along * turn[ARM > 0], atol=1.5e-3)
    world.check()


def stopped_off_the_command(apart: float, *, ticks: int = 500, **changes: object) -> tuple[World, np.ndarray]:
    """An arm that was pushed `apart` [rad] from its command at one joint, and STOP for it."""
    world = running(60, **changes)
    world.sending = False
    world.step(80)
    off = world.stream[-1] + apart * (np.arange(14) == 0)
    for _ in range(60):
        world.measured = off
        world.step()
    assert world.cycle.ladder.code == "tracking_error"
    world.measured = off
    world.cycle.clear_fault()
    for _ in range(ticks):
        world.measured = off
        world.step()
    return world, off


def test_an_alignment_keeps_the_limit_of_tool_speed() -> None:
    """A command that was brought to the arm moved its tool at 0.039 m/s where the cell allows 0.03 m/s."""
    pytest.importorskip("pinocchio", reason="pin is not installed (make setup)")
    judge = GeometryJudge(read_judged_robot(ROBOT.source))
    speeds = build_speed_limits(ROBOT, ChainOptions(max_tcp_speed=0.03))
    world, off = stopped_off_the_command(0.25, ticks=0, speeds=speeds)
    start = len(world.stream)
    for _ in range(500):
        world.measured = off
        world.step()
    moved = np.array(world.stream[start:])
    assert np.abs(moved[-1] - moved[0]).max() > 0.05
    assert max(judge.tool_speeds(moved, period=0.01).values()) < 0.0301
    world.check()


def test_an_emergency_stop_ends_an_alignment() -> None:
    """An alignment belongs to no chunk: a STOP that only looked at the rows in execution let it go on."""
    world, off = stopped_off_the_command(0.25, ticks=60)
    assert world.rung is Ladder.HOLD
    assert np.abs(world.cycle.velocity).max() > 0.01, "it is under way"
    world.cycle.estop()
    for _ in range(60):
        world.measured = off
        world.step()
    assert world.rung is Ladder.STOP
    assert world.cycle.standing
    assert abs(world.stream[-1][0] - off[0]) > 0.05
    world.check()


def ticks_to_rest(*, stopped: bool) -> int:
    """Return the ticks to rest after rows that end in motion have run out."""
    world = World(chunk_timeout_ns=10_000 * MS)
    rows = HOME + 1.0 * np.arange(8)[:, None] * PERIOD * 1e-9 * (np.arange(14) == 0)
    world.sending = False
    world.step(5)
    world.offer(world.chunk(rows, delay_ms=0))
    world.step(2)
    while world.cycle.ladder.code != "rows_exhausted":
        world.step()
    assert np.abs(world.cycle.velocity).max() > 0.2
    if stopped:
        world.cycle.estop()
        world.step()
        assert world.rung is Ladder.STOP
        assert world.cycle.braking
    ticks = int(stopped)
    while not world.cycle.standing:
        world.step()
        ticks += 1
    world.check()
    return ticks


def test_an_emergency_stop_does_not_wait_for_rows_that_have_run_out() -> None:
    """The plan comes to rest by itself after its last row; an emergency stop brings it to rest sooner."""
    assert ticks_to_rest(stopped=True) < ticks_to_rest(stopped=False)


def test_a_command_is_brought_slowly_to_an_arm_that_was_pushed() -> None:
    """A new start at the measured position was a step of the command: up to 0.44 rad in one tick."""
    world, off = stopped_off_the_command(0.25)
    assert world.rung is Ladder.HOLD
    assert "fault_cleared" in world.codes()
    assert world.stream[-1][0] == pytest.approx(off[0], abs=1e-6)
    speed = np.abs(np.diff(np.array(world.stream[-500:]), axis=0)).max() / 0.01
    assert 0.01 < speed < 0.11 * LIMITS.velocity[0]
    world.check()


def test_a_command_is_not_brought_to_a_position_that_is_too_far_to_be_trusted() -> None:
    world, _ = stopped_off_the_command(0.5)
    assert world.rung is Ladder.STOP
    assert np.ptp(np.array(world.stream[-500:]), axis=0).max() < 1e-9
    world.check()


def test_a_stop_that_was_cleared_moves_nothing_before_the_operator_lets_it() -> None:
    """clear_fault went on with the motion within 49 ms."""
    world = World(start_by_itself=False)
    world.step(60)
    assert world.cycle.ladder.code == "awaiting_resume"
    assert np.ptp(np.array(world.stream), axis=0).max() < 1e-9
    world.cycle.resume()
    world.step(150)
    assert world.rung is Ladder.NOMINAL
    world.cycle.estop()
    world.step(120)
    world.cycle.resume()
    world.step(20)
    assert world.rung is Ladder.STOP, "a go does not release a STOP"
    world.cycle.clear_fault()
    still = len(world.stream)
    world.step(100)
    assert world.cycle.ladder.code == "awaiting_resume"
    assert np.ptp(np.array(world.stream[still:]), axis=0).max() < 1e-9
    world.cycle.resume()
    world.step(30)
    slow = np.abs(world.cycle.velocity).max()
    world.step(120)
    assert world.rung is Ladder.NOMINAL
    assert 0.0 < slow < 0.8 * np.abs(np.diff(np.array(world.stream[-60:]), axis=0)).max() / 0.01
    world.check()


@pytest.mark.parametrize("code", ["driver_lost", "no_listener"])
def test_an_arm_whose_driver_was_away_waits_for_the_operator(code: str) -> None:
    from wam.core.ladder import finding

    world = World(start_by_itself=False)
    world.step(10)
    world.cycle.resume()
    world.step(100)
    assert world.rung is Ladder.NOMINAL
    world.cycle.raise_cause(finding(code))
    world.step(60)
    world.cycle.withdraw_cause(code)
    still = len(world.stream)
    world.step(60)
    assert world.cycle.ladder.code == "awaiting_resume"
    assert np.ptp(np.array(world.stream[still:]), axis=0).max() < 1e-9


@pytest.mark.parametrize("code", ["driver_unconfirmed", "driver_lost"])
def test_chunks_move_nothing_while_the_arm_is_held_from_outside(code: str) -> None:
    world = World()
    world.cycle.raise_cause(finding(code))
    world.step(200)
    assert world.cycle.ladder.code == code
    np.testing.assert_array_equal(world.stream, np.tile(world.stream[0], (len(world.stream), 1)))
    world.cycle.withdraw_cause(code)
    world.step(60)
    assert world.rung is Ladder.NOMINAL
    world.check()


def test_an_activation_begins_where_the_arm_is_and_waits_for_a_go() -> None:
    """A deactivated arm that was let go before moved at its next activation without a go, and from the last command:
    one that had been moved by hand jumped there in a tick."""
    world = World(start_by_itself=False)
    world.step(10)
    world.cycle.resume()
    world.step(120)
    assert world.rung is Ladder.NOMINAL
    world.cycle.rest()
    while not world.cycle.rested.is_set():
        world.step()
    world.cycle.resume()  # nobody deals with it any more
    moved = world.measured + 0.1 * ARM
    world.now_ns, world.wall_ns = world.now_ns + 5000 * MS, world.wall_ns + 5000 * MS
    world.measured = moved
    world.cycle.begin()
    still = len(world.stream)
    world.step(100)
    assert world.cycle.ladder.code == "awaiting_resume"
    np.testing.assert_array_equal(world.stream[still:], np.tile(moved, (len(world.stream) - still, 1)))
    world.offset, world.amplitude = moved - HOME, 0.02
    world.cycle.resume()
    world.step(60)
    assert world.rung is Ladder.NOMINAL


@pytest.mark.parametrize(("slept_ms", "set_ms"), [(300, 60_000), (300, -60_000), (1500, 60_000)])
def test_a_stream_that_was_silent_begins_at_rest_also_where_the_clock_was_set(
    slept_ms: int, set_ms: int
) -> None:
    """The driver had stopped the arm meanwhile. The jump of the clock hid the silence: commands went on at the speed
    that the arm had had before, 0.4 rad/s within one tick, and led it 61 mrad further, without a go."""
    world = running(100, start_by_itself=True)
    while np.abs(world.cycle.velocity).max() < 0.15:
        world.step()
        assert world.tick < 400
    last = world.measured = world.stream[-1]
    passed_ns = (slept_ms + set_ms) * MS
    world.now_ns, world.wall_ns = world.now_ns + passed_ns, world.wall_ns + slept_ms * MS
    world.sending = False
    start = len(world.stream)
    world.step(60)
    assert "clock_jump" in world.codes()
    assert np.abs(np.array(world.stream[start:]) - last).max() < 1e-9


@pytest.mark.parametrize(
    ("slept_ms", "set_ms", "waits"),
    [(300, 0, False), (800, 0, True), (3_600_000, 0, True), (800, 60_000, True), (800, -60_000, True)],
)
def test_after_a_long_sleep_of_the_process_the_arm_waits_for_a_go(
    slept_ms: int, set_ms: int, waits: bool
) -> None:
    """The process slept for 1.5 s, and a button was pressed meanwhile whose message was lost in the full queue. Whether
    the arm went on by itself was left to chance: whether a fresh joint state was read before the first step. A clock
    that was set meanwhile, as after a suspension, hid that the process had slept."""
    world = World(start_by_itself=False)
    world.step(10)
    world.cycle.resume()
    world.step(120)
    assert world.rung is Ladder.NOMINAL
    passed_ns = (slept_ms + set_ms) * MS
    world.now_ns, world.wall_ns = world.now_ns + passed_ns, world.wall_ns + slept_ms * MS
    world.start_ns, world.amplitude = world.start_ns + passed_ns, 0.05
    world.step(100)
    assert ("clock_jump" if set_ms else "command_gap") in world.codes()
    assert (world.cycle.ladder.code == "awaiting_resume") is waits
    assert world.cycle.standing is waits
    world.step(60)
    travel = np.ptp(np.array(world.stream)[-60:], axis=0).max()
    assert travel < 1e-9 if waits else travel > 1e-3
    world.cycle.resume()
    world.step(60)
    assert world.rung is Ladder.NOMINAL


def test_a_go_before_an_emergency_stop_is_armed_does_not_count_once_it_is() -> None:
    """A go was kept for as long as a button was not armed: 15 s later its first false set the arm in motion."""
    world = World(start_by_itself=False)
    world.step(10)
    world.cycle.raise_cause(finding("estop_waiting"), of="desk")
    assert world.cycle.not_armed() is not None
    world.step(10)
    world.cycle.resume()
    world.step(10)
    world.cycle.withdraw_cause("estop_waiting", of="desk")
    assert world.cycle.not_armed() is None
    world.step(60)
    assert world.cycle.ladder.code == "awaiting_resume"
    np.testing.assert_array_equal(np.ptp(world.stream, axis=0), 0.0)
    world.cycle.resume()
    world.step(60)
    assert world.rung is Ladder.NOMINAL


def test_the_time_between_two_activations_is_no_gap_of_the_commands() -> None:
    """Each activation after the first reported `command_gap`, and held the arm for it, since no step had run before."""
    world = running(60)
    world.cycle.rest()
    while not world.cycle.rested.is_set():
        world.step()
    world.now_ns, world.wall_ns = world.now_ns + 5000 * MS, world.wall_ns + 5000 * MS
    world.cycle.begin()
    world.step(60)
    assert "command_gap" not in world.codes()
    assert world.rung is Ladder.NOMINAL


@pytest.mark.parametrize("by_itself", [True, False])
@pytest.mark.parametrize("apart", [0.15, 0.25])
def test_after_any_stop_the_command_is_brought_to_the_arm_before_it_is_let_go(
    by_itself: bool, apart: float
) -> None:
    """Only a tracking error that was still there, and only in simulation: on hardware waiting for a go ended the motion
    at once, and a STOP for an arm that was pushed could not be cleared."""
    world = World(start_by_itself=by_itself)
    world.step(10)
    world.cycle.resume()
    world.step(60)
    world.sending = False
    world.step(80)
    off = world.stream[-1] + apart * (np.arange(14) == 0)
    world.cycle.estop()
    for _ in range(600):
        world.measured = off
        world.step()
        if len(world.stream) % 200 == 199:
            world.cycle.clear_fault()
    assert world.rung is Ladder.HOLD
    np.testing.assert_allclose(world.stream[-1], off, atol=1e-6)
    world.check()


@pytest.mark.parametrize("waits", ["alignment", "slowed"])
def test_the_first_motion_is_slow_whatever_the_arm_waits_for_after_the_go(waits: str) -> None:
    """A go that came while the command was brought to the arm, or while the robot had slowed itself to nothing, was
    used up before the arm moved: it then reached full speed in 60 ms."""
    world = World(start_by_itself=False)
    world.step(20)
    if waits == "slowed":
        world.cycle.speed_scaling = 0.0
        world.cycle.resume()
        world.step(60)
        world.cycle.speed_scaling = 1.0
    else:
        world.cycle.estop()
        world.sending = False
        world.step(5)
        off = world.stream[-1] + 0.1 * (np.arange(14) == 0)
        world.cycle.clear_fault()
        for tick in range(300):
            world.measured = off
            world.step()
            if tick == 5:
                assert world.cycle.ladder.code == "aligning"
                world.cycle.resume()
        world.offset = off - HOME
        world.sending = True
    for _ in range(60):
        world.step()
        if world.cycle.rate > 0.05:
            break
    world.step(40)
    assert 0.3 < world.cycle.rate < 0.6
    world.check()


def test_a_stop_is_played_to_rest_although_nobody_seems_to_follow() -> None:
    """Joint states that froze counted as an arm that does not follow, and commands ended at 0.3 rad/s within a STOP."""
    world = World()
    world.amplitude, world.frequency = 0.3, 0.3
    world.step(180)
    assert np.abs(world.cycle.velocity).max() > 0.3
    world.cycle.estop()
    world.step(3)
    world.cycle.raise_cause(
        Finding(Verdict.HOLD, "device_not_ready", "its joint states stand still", guessed=True), of="left"
    )
    silences = len(world.silences)
    while not world.cycle.standing:
        world.step()
        assert len(world.silences) == silences, "commands go on to rest"
    world.check()
    rest = world.stream[-1]
    world.step(5)
    assert len(world.silences) > silences, "at rest nothing is sent to an arm that does not follow"
    np.testing.assert_array_equal(world.stream[-1], rest)
