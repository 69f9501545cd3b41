# SPDX-License-Identifier: Apache-2.0
"""The twin of joint_trajectory_controller: one test per rule of the real one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wam.core.errors import JointError
from wam.sim.jtc import ControllerOptions, Trajectory, TrajectoryController, TrajectoryPoint

MS = 1_000_000
NOW = 1_700_000_000_000_000_000
NAMES = ("a", "b")
ZERO = np.zeros(2)


def point(
    ms: int, a: float, b: float = 0.0, v: tuple[float, ...] = (), acc: tuple[float, ...] = ()
) -> TrajectoryPoint:
    return TrajectoryPoint(ms * MS, (a, b), v, acc)


def controller(**options: float | bool) -> TrajectoryController:
    return TrajectoryController(NAMES, ZERO, options=ControllerOptions(**options))  # type: ignore[arg-type]


def send(
    target: TrajectoryController,
    *points: TrajectoryPoint,
    names: tuple[str, ...] = NAMES,
    stamp_ns: int = 0,
    measured: np.ndarray = ZERO,
) -> None:
    trajectory = Trajectory(names, points, stamp_ns)
    target.accept(trajectory, now_ns=NOW, measured=measured, velocity=ZERO)


def after(target: TrajectoryController, ms: float, measured: np.ndarray = ZERO) -> list[float]:
    return target.advance(round(ms * MS), measured).tolist()


def test_it_holds_where_it_was_activated() -> None:
    target = TrajectoryController(NAMES, np.array([0.3, -0.2]))
    assert after(target, 1000) == [0.3, -0.2]


# -- what it accepts


@pytest.mark.parametrize("names", [(), ("a",), ("a", "c"), ("a", "b", "c"), ("a", "a")])
def test_names_must_be_those_of_the_arm(names: tuple[str, ...]) -> None:
    with pytest.raises(JointError, match="joint names"):
        send(controller(), point(100, 0.1), names=names)


def test_the_order_of_the_names_is_free() -> None:
    target = controller()
    send(target, point(100, 0.1, 0.2), names=("b", "a"))
    assert after(target, 100) == [0.2, 0.1]


def test_an_empty_message_is_refused_and_stops_nothing() -> None:
    """Older documentation says that it stops the robot."""
    target = controller()
    send(target, point(100, 0.1))
    after(target, 50)
    with pytest.raises(JointError, match="an empty trajectory"):
        send(target)
    assert after(target, 50) == pytest.approx([0.1, 0.0])


def test_the_last_velocity_must_be_zero() -> None:
    moving = point(100, 0.1, v=(0.5, 0.0))
    with pytest.raises(JointError, match="velocity of the last point"):
        send(controller(), moving)
    send(controller(allow_nonzero_velocity_at_trajectory_end=True), moving)
    send(controller(), point(100, 0.1, v=(0.0, 0.0)))


def test_velocities_that_are_left_out_pass() -> None:
    send(controller(), point(100, 0.1))


def test_a_stamped_trajectory_that_ends_in_the_past_is_refused() -> None:
    with pytest.raises(JointError, match="ends in the past"):
        send(controller(), point(100, 0.1), stamp_ns=NOW - 101 * MS)


def test_a_stamp_of_now_with_time_zero_is_refused_after_any_latency() -> None:
    """stamp = now() and time_from_start = 0 is what some stacks send."""
    with pytest.raises(JointError, match="ends in the past"):
        send(controller(), point(0, 0.1), stamp_ns=NOW - 1)


@pytest.mark.parametrize("times", [(0, 0), (100, 100), (100, 50)])
def test_times_must_increase(times: tuple[int, int]) -> None:
    with pytest.raises(JointError, match="time_from_start of point 1"):
        send(controller(), *(point(ms, 0.1) for ms in times))


@pytest.mark.parametrize(
    "wrong",
    [
        TrajectoryPoint(MS, (0.1,)),
        TrajectoryPoint(MS, ()),
        TrajectoryPoint(MS, (0.1, 0.1), (0.0,)),
        TrajectoryPoint(MS, (0.1, 0.1), (), (0.0, 0.0, 0.0)),
        TrajectoryPoint(MS, (0.1, math.nan)),
    ],
)
def test_a_field_of_another_width_or_without_a_value_is_refused(wrong: TrajectoryPoint) -> None:
    with pytest.raises(JointError, match="of point 0"):
        send(controller(), wrong)


# -- time


def test_stamp_zero_starts_at_reception() -> None:
    target = controller()
    after(target, 5000)
    send(target, point(100, 0.1))
    assert after(target, 50) == pytest.approx([0.05, 0.0])


def test_a_stamp_in_the_past_skips_points_without_a_blend() -> None:
    target = controller()
    send(target, point(100, 0.1), point(200, 0.3), stamp_ns=NOW - 150 * MS)
    assert after(target, 0)[0] == pytest.approx(0.2)


def test_a_future_stamp_does_not_keep_the_old_trajectory() -> None:
    target = controller()
    send(target, point(1000, 1.0))
    after(target, 100)
    send(target, point(100, 0.1), stamp_ns=NOW + 300 * MS)
    assert after(target, 400) == pytest.approx([0.1, 0.0])


def test_a_first_time_of_zero_is_a_step() -> None:
    target = controller()
    send(target, point(0, 0.4))
    assert after(target, 1) == [0.4, 0.0]


# -- replacement


def test_a_new_trajectory_replaces_all_of_the_old_one() -> None:
    target = controller()
    send(target, point(100, 0.1), point(200, 0.9))
    after(target, 50)
    send(target, point(100, 0.2))
    assert after(target, 1000) == [0.2, 0.0]


@pytest.mark.parametrize(("desired", "begin"), [(True, 0.05), (False, 0.02)])
def test_it_starts_at_the_last_command_or_at_the_measured_state(desired: bool, begin: float) -> None:
    """Started at the measured state, every chunk begins with a step back by the tracking error."""
    target = controller(interpolate_from_desired_state=desired)
    measured = np.array([0.02, 0.0])
    send(target, point(100, 0.1), measured=ZERO)
    after(target, 50)
    send(target, point(50, 0.1), measured=measured)
    assert after(target, 0)[0] == pytest.approx(begin)


# -- interpolation


def sampled(target: TrajectoryController, ms: int) -> np.ndarray:
    """Return position, velocity and acceleration of the first joint, every millisecond."""
    rows = []
    for _ in range(ms):
        target.advance(MS, ZERO)
        position, velocity = target.reference
        rows.append([position[0], velocity[0]])
    return np.array(rows)


def test_positions_alone_are_joined_by_straight_lines() -> None:
    target = controller()
    send(target, point(100, 0.1), point(200, 0.1))
    rows = sampled(target, 200)
    np.testing.assert_allclose(rows[:99, 1], 1.0)
    np.testing.assert_allclose(rows[100:199, 1], 0.0)


def test_velocities_make_the_path_smooth_in_velocity() -> None:
    target = controller()
    send(target, point(100, 0.1, v=(1.0, 0.0)), point(200, 0.2, v=(0.0, 0.0)))
    rows = sampled(target, 200)
    assert rows[99].tolist() == pytest.approx([0.1, 1.0])
    assert np.abs(np.diff(rows[:, 1])).max() < 0.05
    assert np.abs(np.diff(rows[:, 0]) * 1000 - rows[:-1, 1]).max() < 0.05


def test_accelerations_make_the_path_smooth_in_acceleration() -> None:
    target = controller()
    send(
        target,
        point(200, 0.1, v=(0.5, 0.0), acc=(2.0, 0.0)),
        point(400, 0.2, v=(0.0, 0.0), acc=(0.0, 0.0)),
    )
    rows = sampled(target, 400)
    assert rows[199].tolist() == pytest.approx([0.1, 0.5])
    acceleration = np.diff(rows[:, 1]) * 1000
    assert np.abs(np.diff(acceleration)).max() < 1.5
    assert acceleration[199] == pytest.approx(2.0, abs=0.2)


def test_a_segment_falls_back_to_what_both_ends_carry() -> None:
    target = controller()
    send(target, point(100, 0.1, v=(0.0, 0.0)), point(200, 0.3))
    rows = sampled(target, 200)
    np.testing.assert_allclose(rows[100:199, 1], 2.0)


def test_two_equal_positions_with_a_velocity_between_them_are_a_large_excursion() -> None:
    """A known trap of dwell points: the cubic obeys the velocities."""
    target = controller()
    send(target, point(1, 0.0, v=(0.5, 0.0)), point(3500, 0.0, v=(0.5, 0.0)), point(3600, 0.0, v=(0.0, 0.0)))
    assert np.abs(sampled(target, 3500)[:, 0]).max() > 0.15


# -- tolerances and the end


def test_beyond_its_tolerance_it_holds_and_tells_nobody() -> None:
    target = controller(trajectory_tolerance=0.2)
    send(target, point(100, 0.1), point(1000, 1.0))
    assert after(target, 300, np.array([0.11, 0.0]))[0] == pytest.approx(0.3)
    assert after(target, 50, np.array([0.12, 0.0])) == [0.12, 0.0]
    assert target.gave_up
    assert after(target, 500, np.array([0.12, 0.0])) == [0.12, 0.0]
    send(target, point(100, 0.13))
    assert not target.gave_up


def test_the_last_point_is_held() -> None:
    target = controller()
    send(target, point(100, 0.1))
    assert after(target, 60_000) == [0.1, 0.0]


def test_after_its_timeout_it_holds_the_measured_position() -> None:
    target = controller(cmd_timeout_ns=500 * MS)
    measured = np.array([0.08, 0.0])
    send(target, point(100, 0.1))
    assert after(target, 599, measured) == [0.1, 0.0]
    assert after(target, 2, measured) == [0.08, 0.0]


def test_the_robots_speed_scaling_stretches_time() -> None:
    target = controller()
    send(target, point(100, 0.1))
    target.speed_scaling = 0.5
    assert after(target, 100)[0] == pytest.approx(0.05)
    target.speed_scaling = 0.0
    assert after(target, 10_000)[0] == pytest.approx(0.05)
