# SPDX-License-Identifier: Apache-2.0
"""The safety cycle on injected time: no rclpy, no sleeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from safety_world import ARM, HOME, LIMITS, MS, PERIOD, ROBOT, TICK, World, running

from wam.core.chunk.splice import Strategy
from wam.core.verdict import Finding, Ladder, Verdict


def test_a_smooth_policy_is_followed_to_a_tenth_of_a_milliradian() -> None:
    """openpi 393, GR00T 285 and 272: motion was jerky at every seam although inference was fast enough."""
    world = running(400)
    t = (world.now_ns + world.settings.lead_ns - world.start_ns) * 1e-9
    wanted = HOME + world.amplitude * np.sin(2 * np.pi * world.frequency * t) * ARM
    np.testing.assert_allclose(world.stream[-1], wanted, atol=1e-4)
    steady = np.array(world.stream[150:])
    jerk = np.abs(np.diff(steady, n=3, axis=0)) / 0.01**3
    assert jerk.max() < 5.0, "a tenth of the limit: no seam is felt"
    world.check()


def test_before_the_first_chunk_the_arm_is_held_where_it_stands() -> None:
    """lerobot 3684: no commands went out while the policy started, and the driver's watchdog fired."""
    world = World()
    world.sending = False
    world.step(50)
    assert world.rung is Ladder.HOLD
    np.testing.assert_allclose(world.stream, np.broadcast_to(HOME, (50, 14)), atol=1e-12)


def test_nothing_is_commanded_before_every_group_was_measured() -> None:
    world = World()
    world.states = False
    world.step(20)
    assert not world.stream
    assert world.rung is Ladder.HOLD
    world.cycle.offer_state("left", stamp_ns=world.now_ns, positions=HOME[:7])
    world.step(5)
    assert not world.stream
    assert "no_joint_state_yet" in world.codes()


def test_a_measured_state_that_is_not_finite_never_seeds_the_stream() -> None:
    world = World()
    world.measured = np.full(14, np.nan)
    world.step(10)
    assert not world.stream


def test_an_arm_far_outside_its_limits_is_not_moved() -> None:
    world = World()
    world.measured = HOME.copy()
    world.measured[0] = 5.0
    world.step(10)
    assert not world.stream
    assert world.rung is Ladder.STOP
    assert world.cycle.ladder.code == "outside_limits"


def test_silence_of_the_executor_is_a_smooth_stop_and_a_hold() -> None:
    """AHA-WAM's release drives both arms to a reset pose when a request is stale; here silence holds."""
    world = running(123)
    world.sending = False
    world.step(300)
    assert "chunk_timeout" in world.codes()
    assert world.rung is Ladder.HOLD
    world.check()
    np.testing.assert_allclose(world.stream[-1], world.measured, atol=1e-6)
    assert np.ptp(np.array(world.stream[-100:]), axis=0).max() < 1e-6


def test_hold_begins_within_a_tenth_of_a_second_of_the_last_valid_row() -> None:
    world = running(120, chunk_timeout_ns=10_000 * MS)
    world.sending = False
    last_row_ns = world.cycle.executing.timeline.end_ns if world.cycle.executing else 0
    while world.rung < Ladder.HOLD:
        world.step()
        assert world.now_ns + world.settings.lead_ns < last_row_ns + 100 * MS
    assert world.cycle.ladder.code == "rows_exhausted"
    world.check()


def test_a_hold_stays_at_the_last_command_and_does_not_drift() -> None:
    """The Piper's two conversion factors differ by 0.1 %: fed back again and again, the arm creeps away."""
    world = running(130)
    world.sending = False
    world.step(200)
    before = world.stream[-1]
    for _ in range(200):
        world.measured = world.stream[-1] * 1.001
        world.step()
        world.measured = world.stream[-1] * 1.001
    np.testing.assert_allclose(world.stream[-1], before, atol=1e-6)


def test_motion_resumes_after_a_hold_without_a_jump() -> None:
    world = running(120)
    world.sending = False
    world.step(100)
    world.sending = True
    world.amplitude = 0.05
    world.step(200)
    assert world.rung is Ladder.NOMINAL
    world.check()


def test_disagreeing_chunks_do_not_make_the_arm_jump() -> None:
    """RTC's authors: two modes of a policy take turns; every seam was a step."""
    world = running(60)
    for k in range(40):
        world.offset = (0.03 if k % 2 else -0.03) * ARM
        world.step(10)
    world.check()
    assert world.rung is Ladder.NOMINAL


def test_rows_that_run_out_are_slowed_to_their_end() -> None:
    world = running(100, chunk_timeout_ns=10_000 * MS)
    world.sending = False
    speeds = []
    while world.rung < Ladder.HOLD:
        world.step()
        speeds.append(float(np.abs(world.cycle.velocity).max()))
    assert "horizon_short" in world.codes()
    assert speeds[-1] < 0.1
    world.check()


def test_late_is_reported_while_rows_remain() -> None:
    world = World(chunk_timeout_ns=10_000 * MS)
    world.amplitude = 0.03
    world.step(200)
    world.sending = False
    world.step(22)
    assert "chunk_late" in world.codes()
    assert world.rung is Ladder.LATE


def test_an_old_planner_context_is_late_and_not_a_reason_to_stop() -> None:
    world = running(60)
    world.sending = False
    for _ in range(4):
        world.offer(world.chunk(context_age_ns=3_000 * MS))
        world.step(10)
    assert world.rung is Ladder.LATE
    assert world.cycle.ladder.code == "context_late"
    world.sending = True
    world.step(60)
    assert world.rung is Ladder.NOMINAL


def test_a_chunk_that_is_not_finite_stops_and_stays_stopped() -> None:
    world = running(60)
    rows = world.rows(world.now_ns - 120 * MS)
    rows[9, 3] = np.nan
    world.offer(world.chunk(rows))
    world.step(2)
    assert world.rung is Ladder.STOP
    assert world.cycle.ladder.code == "non_finite"
    world.step(200)
    assert world.rung is Ladder.STOP
    assert world.cycle.standing
    world.check()
    world.cycle.clear_fault()
    world.amplitude = 0.0
    world.offset = world.stream[-1] - HOME
    world.step(30)
    assert world.rung is Ladder.NOMINAL
    world.check()


def test_an_emergency_stop_acts_at_the_next_tick_and_cannot_be_overridden_by_chunks() -> None:
    world = running(123)
    speed = np.abs(world.cycle.velocity).max()
    world.cycle.estop()
    world.step(1)
    assert world.rung is Ladder.STOP
    world.step(200)
    assert world.rung is Ladder.STOP
    assert speed > 0.05
    assert world.cycle.standing
    world.check()


def test_a_held_emergency_stop_is_not_cleared() -> None:
    world = running(60)
    world.cycle.estop(held=True)
    world.step(5)
    world.cycle.clear_fault()
    world.step(5)
    assert world.rung is Ladder.STOP
    world.cycle.withdraw_cause("estop")
    world.step(5)
    assert world.rung is Ladder.STOP, "letting go of the button does not move the arm"
    world.cycle.clear_fault()
    world.step(20)
    assert world.rung is Ladder.NOMINAL


def test_a_blocked_arm_is_stopped_and_stays_at_the_last_command() -> None:
    """A STOP that went to the measured position drove the arm to where a faulty sensor said it was."""
    world = running(60, filters_off=("jump",))
    world.amplitude, world.frequency = 0.2, 0.4
    stuck = world.measured.copy()
    for _ in range(150):
        world.measured = stuck
        world.step()
    assert world.rung is Ladder.STOP
    assert world.cycle.ladder.code == "tracking_error"
    rest = world.stream[-1]
    for _ in range(300):
        world.measured = stuck
        world.step()
    np.testing.assert_array_equal(world.stream[-1], rest)
    world.check()


@pytest.mark.parametrize("reading", ["zeros", "one joint", "far"])
def test_a_wrong_measurement_stops_the_arm_and_never_moves_it(reading: str) -> None:
    """One joint reported 0.8 rad off was followed by 0.79 rad; a driver that reports zeros by 1.25 rad."""
    world = running(123)
    wrong = {"zeros": np.zeros(14), "one joint": HOME + 0.8 * (np.arange(14) == 2), "far": HOME + 1.0}[
        reading
    ]
    start = len(world.stream)
    for _ in range(400):
        world.measured = wrong
        world.step()
    assert world.rung is Ladder.STOP
    moved = np.abs(np.array(world.stream[start:]) - world.stream[start - 1])
    assert moved.max() < 0.1, "no more than the way to rest"
    np.testing.assert_array_equal(world.stream[-1], world.stream[-200])
    world.check()


def test_a_closed_loop_policy_whose_chunks_come_late_and_seldom_reaches_its_goal() -> None:
    """Chunks of 1 s, 0.4 s late and every 0.7 s: the arm came to rest between them, and was locked out as a jump."""
    world = World()
    world.sending = False
    goal = np.clip(HOME + 0.8 * ARM, LIMITS.lower, LIMITS.upper)
    seen = [world.measured.copy()]
    for tick in range(800):
        if tick % 70 == 5:
            observed = seen[max(0, len(seen) - 1 - 40)]
            steps = 1.2 * np.arange(16) * 2 * PERIOD * 1e-9
            away = goal - observed
            rows = observed + np.sign(away) * np.minimum(np.abs(away), steps[:, None])
            world.offer(world.chunk(rows, delay_ms=400, row_period_ns=2 * PERIOD))
        world.step()
        seen.append(world.measured.copy())
    world.check()
    assert "jump" not in world.codes()
    np.testing.assert_allclose(world.measured, goal, atol=0.02)


def test_a_new_generation_drops_the_rows_of_the_old_task() -> None:
    """Single-GPU AHA-WAM keeps executing rows of the last episode after a reset; the generation ends them here."""
    world = running(123)
    world.sending = False
    world.generation = 2
    here = world.cycle.position.copy()
    world.offer(world.chunk(np.tile(here, (16, 1))))
    world.step(60)
    world.check()
    np.testing.assert_allclose(world.stream[-1], here, atol=0.05)


def test_a_jump_within_a_task_holds_and_the_next_good_chunk_goes_on() -> None:
    world = running(60)
    world.sending = False
    world.offer(world.chunk(world.rows(world.now_ns) + 0.5 * ARM))
    world.step(2)
    assert world.rung is Ladder.HOLD
    assert world.cycle.ladder.code == "jump"
    world.sending = True
    world.step(20)
    assert world.rung is Ladder.NOMINAL
    world.check()


def test_a_permuted_chunk_moves_the_joints_it_names() -> None:
    world = running(60)
    world.sending = False
    order = np.random.default_rng(0).permutation(14)
    for _ in range(6):
        chunk = world.chunk()
        world.offer(
            replace(
                chunk,
                joint_names=tuple(ROBOT.joint_names[i] for i in order),
                rows=chunk.rows[:, order].copy(),
            )
        )
        world.step(10)
    assert world.rung is Ladder.NOMINAL
    t = (world.now_ns + world.settings.lead_ns - world.start_ns) * 1e-9
    wanted = HOME + world.amplitude * np.sin(2 * np.pi * world.frequency * t) * ARM
    np.testing.assert_allclose(world.stream[-1], wanted, atol=1e-3)


def test_values_in_another_order_than_their_names_are_refused_as_a_jump() -> None:
    world = running(60)
    world.sending = False
    rows = world.rows(world.now_ns - 120 * MS)
    world.offer(world.chunk(np.roll(rows, 1, axis=1)))
    world.step(2)
    assert world.rung >= Ladder.HOLD
    world.check()


def test_a_chunk_of_another_policy_is_refused_and_the_rows_at_hand_go_on() -> None:
    world = running(60)
    world.offer(world.chunk(contract_hash="b" * 64))
    world.step(1)
    assert world.rung is Ladder.NOMINAL
    assert "contract_mismatch" in world.codes()


def test_a_message_that_cannot_be_read_is_reported_once() -> None:
    world = running(60)
    for _ in range(5):
        world.cycle.reject("malformed_chunk", "num_rows does not fit")
        world.step(1)
    assert world.codes().count("malformed_chunk") == 1
    assert world.rung is Ladder.NOMINAL


def test_duplicated_and_overtaken_chunks_change_nothing() -> None:
    world, twin = running(60), running(60)
    for one in (world, twin):
        one.sending = False
    chunk = world.chunk()
    twin.sequence += 1
    for one in (world, twin):
        one.offer(chunk)
        one.step(3)
    world.offer(chunk)
    world.step(1)
    world.offer(replace(chunk, stamp_ns=chunk.stamp_ns - 50 * MS, sequence=chunk.sequence - 1))
    world.step(5)
    twin.step(6)
    np.testing.assert_array_equal(np.array(world.stream), np.array(twin.stream))


@pytest.mark.parametrize("by_s", [-3600.0, -0.2, 3600.0])
def test_a_clock_that_is_set_brings_the_arm_to_rest_without_a_step_and_motion_resumes(by_s: float) -> None:
    """Stamps decide everything, so a clock that jumps makes old rows look new; they are dropped."""
    world = running(123)
    world.now_ns += int(by_s * 1e9)
    world.start_ns += int(by_s * 1e9)
    world.step(1)
    assert world.rung is Ladder.HOLD
    world.step(60)
    assert world.rung is Ladder.NOMINAL
    assert "clock_jump" in world.codes()
    assert not world.silences
    world.check()


def test_a_paused_clock_holds_and_goes_on_when_it_runs_again() -> None:
    world = running(123)
    world.step(50, clock=0.0)
    assert world.rung is Ladder.HOLD
    assert "clock_paused" in world.codes()
    assert world.cycle.standing
    world.step(60)
    assert world.rung is Ladder.NOMINAL
    world.check()


def test_a_simulation_at_half_speed_is_followed_at_half_speed() -> None:
    world = World()
    world.step(600, clock=0.5)
    assert world.rung <= Ladder.LATE
    world.check()


def test_a_thread_that_slept_through_a_few_ticks_does_not_make_up_for_them_by_a_burst() -> None:
    world = running(123)
    world.now_ns += 6 * TICK
    world.wall_ns += 6 * TICK
    world.step(100)
    assert world.rung is Ladder.NOMINAL
    world.check()


def test_a_stream_that_was_silent_for_long_goes_on_from_the_last_command() -> None:
    """The interpreter was held for half a second: the arm rests at the last command and must not be thrown ahead."""
    world = running(123)
    world.now_ns += 500 * MS
    world.wall_ns += 500 * MS
    count = len(world.stream)
    world.sending = False
    world.step(20)
    assert "command_gap" in world.codes()
    np.testing.assert_array_equal(world.stream[count:], np.tile(world.stream[count - 1], (20, 1)))
    world.sending = True
    world.step(60)
    assert world.rung is Ladder.NOMINAL
    world.stream = world.stream[count:]
    world.check()


@pytest.mark.parametrize(("before", "share"), [(0.04, 0.025), (0.03, 0.012), (0.0, 0.015), (0.1, 0.085)])
def test_small_changes_of_a_low_speed_of_the_robot_are_followed(before: float, share: float) -> None:
    """A change by less than 0.02 was not worth a ramp, however low the speed: at 0.012 the arm was led on at 0.03, away
    from where it was, and from a standstill at 0.015 it never began to move."""
    world = World(chunk_timeout_ns=10_000 * MS)
    world.rows = lambda stamp, count=16: (  # type: ignore[method-assign]
        world.measured + 0.4 * np.arange(count)[:, None] * PERIOD * 1e-9 * (np.arange(14) == 0)
    )
    world.step(100)
    world.cycle.speed_scaling = before
    world.step(150)
    world.cycle.speed_scaling = share
    world.step(150)
    assert world.cycle.rate == pytest.approx(share, rel=0.02)
    world.check()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.8])
def test_rows_are_played_at_the_speed_of_the_robot(share: float) -> None:
    """UR's scaled controller stretches time: a policy clock that runs on ends far ahead of the arm. While chunks
    arrived, 1.32 of 1.75 rad were travelled at scaling 0 with a compliant arm."""
    world = World(chunk_timeout_ns=10_000 * MS)
    speed = 0.4
    world.rows = lambda stamp, count=16: (  # type: ignore[method-assign]
        world.measured + speed * np.arange(count)[:, None] * PERIOD * 1e-9 * (np.arange(14) == 0)
    )
    world.step(100)
    full = world.cycle.velocity[0]
    world.cycle.speed_scaling = share
    world.step(60)
    assert world.rung is Ladder.SLOW
    start = world.stream[-1][0]
    world.step(100)
    assert world.stream[-1][0] - start == pytest.approx(share * full, abs=0.06 * full)
    world.cycle.speed_scaling = 1.0
    world.step(100)
    assert world.cycle.velocity[0] == pytest.approx(full, rel=0.2)
    world.check()


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_moves_the_arm_and_keeps_the_limits(strategy: Strategy) -> None:
    world = World(strategy=strategy, chunk_timeout_ns=10_000 * MS)
    world.step(300)
    assert np.ptp(np.array(world.stream), axis=0).max() > 0.1
    world.check()


def test_a_chunk_stamped_in_the_future_does_not_block_the_ones_that_follow() -> None:
    world = running(60)
    world.offer(world.chunk(stamp_ns=world.now_ns + 10**10))
    world.step(100)
    assert world.rung is Ladder.NOMINAL
    assert "future_chunk" in world.codes()


def test_a_computed_command_that_violates_a_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last look is other code than what computes the command, so that one fault does not hide the other."""
    world = running(60)
    player = world.cycle._playback._player
    monkeypatch.setattr(player, "tick", lambda: player.position + 0.5)
    count, last = len(world.stream), world.stream[-1]
    world.step(1)
    assert len(world.stream) == count
    assert world.rung is Ladder.STOP
    assert world.cycle.ladder.code == "command_limit"
    monkeypatch.undo()
    world.step(50)
    np.testing.assert_array_equal(world.stream[count:], np.tile(last, (len(world.stream) - count, 1)))


def test_a_cause_from_outside_stops_until_it_is_withdrawn_and_cleared() -> None:
    world = running(60)
    world.cycle.raise_cause(Finding(Verdict.STOP, "second_publisher", "two nodes command the arm"))
    world.step(2)
    assert world.rung is Ladder.STOP
    world.cycle.clear_fault()
    world.step(2)
    assert world.rung is Ladder.STOP
    world.cycle.withdraw_cause("second_publisher")
    world.cycle.clear_fault()
    world.step(20)
    assert world.rung is Ladder.NOMINAL


def test_one_verdict_is_reported_once_and_not_with_every_chunk() -> None:
    world = running(30)
    world.offset = np.where(np.arange(14) == 6, 0.03, 0.0)
    world.step(300)
    assert world.codes().count("position_limit") == 1


def test_a_dry_run_does_not_judge_whether_the_arm_follows() -> None:
    world = World(track=False)
    still = HOME.copy()
    world.amplitude = 0.05
    for _ in range(200):
        world.measured = still
        world.step()
    assert world.rung is Ladder.NOMINAL


def test_the_stream_starts_from_the_controller_s_reference_where_it_is_known() -> None:
    """ros2_controllers 584: a trajectory that starts at the measured state starts behind the command by the
    tracking error, and steps back."""
    world = World()
    reference = HOME[:7] + 0.02 * ARM[:7]
    world.cycle.offer_reference("left", stamp_ns=world.now_ns, positions=reference)
    world.sending = False
    world.step(1)
    np.testing.assert_allclose(world.stream[0][:7], reference)
    np.testing.assert_allclose(world.stream[0][7:], HOME[7:])


def test_a_reference_that_is_old_is_not_used() -> None:
    world = World()
    world.cycle.offer_reference("left", stamp_ns=world.now_ns - 10**9, positions=HOME[:7] + 0.02)
    world.sending = False
    world.step(1)
    np.testing.assert_allclose(world.stream[0], HOME)
