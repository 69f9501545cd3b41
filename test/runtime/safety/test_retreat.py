# SPDX-License-Identifier: Apache-2.0
"""The way out of a contact, on injected time; distances and speeds are judged by the judge of the attacks."""

from __future__ import annotations

import numpy as np
import pytest
from safety_world import HOME, MS, PERIOD, ROBOT, World

pytest.importorskip("pinocchio", reason="pin is not installed (make setup)")

from wam.bench.attack.geometry import GeometryJudge
from wam.bench.attack.robot_file import read_judged_robot
from wam.core.ladder import CAUSES, finding, may_retreat
from wam.core.safety.chain import SafetyChain
from wam.core.safety.collision import CollisionFilter
from wam.core.verdict import Finding, Ladder, Verdict
from wam.runtime.safety.filters import build_filters, build_speed_limits
from wam.runtime.safety.mailbox import Retreated

JUDGE = GeometryJudge(read_judged_robot(ROBOT.source))
TABLE = [number for number, (one, other, _) in enumerate(JUDGE.pairs) if "table" in (one, other)]
FILTERS = build_filters(ROBOT)
CHECKER = next(one.checker for one in FILTERS if isinstance(one, CollisionFilter))
MARGINS = CHECKER.margins.copy()
SPEEDS = build_speed_limits(ROBOT)
NOISE = 3e-5
"""Two distances inside each other are computed no better [m]."""


HOLD_ROWS = 20
"""Rows at the end of a motion in which the arm catches up."""


def depths(states: np.ndarray) -> np.ndarray:
    """Return how deep the arms are in the table, float64 [K] [m]."""
    pin, model, geometry, results = JUDGE._pin, JUDGE._model, JUDGE._geometry, JUDGE._results
    found = np.empty(len(states))
    for row, state in enumerate(states):
        pin.updateGeometryPlacements(model, JUDGE._data, geometry, results, JUDGE._configuration(state))
        found[row] = -min(pin.computeDistance(geometry, results, one).min_distance for one in TABLE)
    return found


def part(states: np.ndarray) -> bool:
    """Return whether an arm in the table comes only further out of it, and stays out once it has left it."""
    deep = depths(states)
    left = int(np.argmax(deep < -1e-3)) if (deep < -1e-3).any() else len(deep)
    return bool((np.diff(deep[: left + 1]) < NOISE).all() and (deep[left:] < 1e-5).all())


def lowered(depth: float) -> np.ndarray:
    """Return a state in which the left arm is `depth` [m] inside the table, by its second joint."""
    low, high = HOME.copy(), HOME.copy()
    high[1] += 1.2
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if depths(middle[None])[0] < depth else (low, middle)
    return low


class Hall(World):
    """Two arms above their table, an executor that sends what it is told, and a person who asks for the way back."""

    def __init__(self, *, tolerated: float = 0.0, **changes: object) -> None:
        # What lies lower than the model says lets the arm in; `find_out` corrects the model.
        CHECKER.margins[:] = np.where(MARGINS > 0.0, MARGINS, -tolerated)
        defaults = {"chunk_timeout_ns": 20_000 * MS, "start_by_itself": False}
        off = changes.pop("filters_off", ())
        chain = SafetyChain(FILTERS, off=off)  # type: ignore[arg-type]
        super().__init__(chain=chain, speeds=SPEEDS, **{**defaults, **changes})
        self.sending = False
        self.answers: list[Retreated] = []
        self.step(3)
        self.go()

    def find_out(self) -> None:
        CHECKER.margins[:] = MARGINS

    def go(self) -> None:
        self.cycle.clear_fault()
        self.step()
        self.cycle.resume()
        self.step()

    def turn(self, by: float, *, speed: float = 0.3, joint: int = 1) -> None:
        """Send the rows that turn a joint `by` [rad] from where the arm is, and let them be followed to rest."""
        count = int(abs(by) / speed * 1e9 / PERIOD) + 1
        rows = np.repeat(self.stream[-1][None], count + HOLD_ROWS, axis=0)
        way = np.arange(len(rows)) * speed * PERIOD * 1e-9
        rows[:, joint] += np.sign(by) * np.minimum(way, abs(by))
        self.offer(self.chunk(rows, delay_ms=0))
        self.step(5)
        self.settle()

    def settle(self) -> None:
        self.step(30)
        ticks = 0
        while not self.cycle.standing or self.cycle.retreating:
            self.step()
            ticks += 1
            assert ticks < 2000

    def retreat(self, ticks: int = 0) -> Retreated:
        """Ask for the way back and return the answer."""
        before = len(self.answers)
        self.cycle.retreat(self.answers.append)
        self.step(2)
        while len(self.answers) == before:
            self.step()
        assert len(self.answers) == before + 1
        return self.answers[-1]

    def stop(self, code: str = "collision") -> None:
        """Send rows into the table; the STOP is latched."""
        self.turn(0.3)
        assert self.rung is Ladder.STOP
        assert self.cycle.ladder.code == code

    def since(self, start: int) -> np.ndarray:
        return np.array(self.stream[start:])


def in_the_table(depth: float = 0.003) -> Hall:
    """An arm that was led `depth` [m] into the table before that was known, and STOP for going deeper."""
    hall = Hall(tolerated=0.01)
    goal = lowered(depth)[1]
    hall.turn(goal - HOME[1])
    assert depths(hall.since(-1))[0] == pytest.approx(depth, abs=2e-4)
    hall.find_out()
    hall.stop()
    return hall


@pytest.mark.parametrize("depth", [0.0, 0.001, 0.002, 0.005])
def test_a_cleared_arm_in_contact_follows_rows_that_lift_it_and_none_that_lower_it(depth: float) -> None:
    """Every clear of an arm 1-5 mm inside the table was answered by STOP for 40 s."""
    hall = Hall(start=lowered(depth))
    hall.turn(0.1)
    assert hall.rung is Ladder.STOP
    assert "table" in hall.events[-1].finding.text
    hall.go()
    hall.turn(0.1)
    assert hall.rung is Ladder.STOP, "still not deeper"
    assert depths(hall.since(0)).max() < depth + NOISE
    hall.go()
    start = len(hall.stream)
    hall.turn(-0.1)
    assert hall.rung < Ladder.STOP
    assert depths(hall.since(-1))[0] < -0.01
    assert part(hall.since(start))
    hall.check()


@pytest.mark.parametrize("depth", [0.0, 0.001, 0.003, 0.005])
def test_a_retreat_leads_out_of_a_contact_slowly_and_bodies_only_come_apart(depth: float) -> None:
    hall = in_the_table(depth)
    came, start = hall.since(0), len(hall.stream)
    answer = hall.retreat()
    assert answer.moved, answer.text
    assert "left_joint2" in answer.text
    assert "mm at the tool" in answer.text
    assert "~/clear_fault" in answer.text
    back = hall.since(start - 1)
    assert depths(back[:1])[0] == pytest.approx(depth, abs=1e-5)
    assert part(back)
    assert depths(back[-1:])[0] < -0.02
    speeds = JUDGE.tool_speeds(back, period=0.01)
    assert 0.01 < max(speeds.values()) < 0.25
    # On the path on which it came, joint for joint.
    assert max(np.abs(came - row).max(axis=1).min() for row in back[::10]) < 2e-3
    # A quarter of the speed at which it came, and at rest at its end.
    assert np.abs(np.diff(back, axis=0)).max() < 0.26 * np.abs(np.diff(came, axis=0)).max()
    assert hall.cycle.standing
    hall.check()


def test_a_latched_stop_stays_latched_until_it_is_cleared_and_then_the_arm_waits_for_a_go() -> None:
    hall = in_the_table()
    hall.events.clear()
    assert hall.retreat().moved
    assert hall.rung is Ladder.STOP
    assert hall.cycle.ladder.code == "collision"
    assert hall.codes() == ["retreat_begun", "retreat_ended"]
    assert all(event.before is event.after is Ladder.STOP for event in hall.events)
    still = len(hall.stream)
    hall.step(60)
    hall.turn(-0.1)
    assert hall.rung is Ladder.STOP
    hall.cycle.clear_fault()
    hall.step(3)
    assert hall.cycle.ladder.code == "awaiting_resume"
    hall.turn(-0.1)
    assert np.ptp(hall.since(still), axis=0).max() < 1e-9, "neither by itself nor by a chunk"
    hall.cycle.resume()
    hall.step()
    hall.turn(-0.1)
    assert hall.stream[-1][1] < hall.stream[still][1] - 0.09
    hall.check()


def test_chunks_clears_and_goes_wait_while_the_arm_goes_back() -> None:
    undisturbed, hall = in_the_table(), in_the_table()
    start = len(hall.stream)
    assert len(undisturbed.stream) == start
    undisturbed.retreat()
    undisturbed.step(5)
    hall.cycle.retreat(hall.answers.append)
    hall.step(40)
    assert hall.cycle.retreating
    assert hall.cycle.planning.forbidden is not None
    hall.cycle.clear_fault()
    hall.cycle.resume()
    hall.turn(0.3)
    hall.settle()
    assert hall.rung is Ladder.STOP
    assert len(hall.answers) == 1
    both = min(len(hall.stream), len(undisturbed.stream))
    np.testing.assert_allclose(hall.stream[start:both], undisturbed.stream[start:both], atol=1e-12)


def test_a_second_request_while_the_arm_goes_back_is_refused_and_changes_nothing() -> None:
    hall = in_the_table()
    hall.cycle.retreat(hall.answers.append)
    hall.step(40)
    hall.cycle.retreat(hall.answers.append)
    hall.step()
    assert [one.moved for one in hall.answers] == [False]
    assert "already" in hall.answers[0].text
    hall.settle()
    assert hall.answers[1].moved


@pytest.mark.parametrize(
    "cause",
    [
        finding("estop"),
        finding("estop_silent", value=1.0, limit=0.5),
        finding("not_enabled", value=0.3, limit=0.2),
        finding("driver_lost"),
        Finding(Verdict.STOP, "second_publisher", "another node commands the arm"),
        Finding(Verdict.HOLD, "drivers_disagree", "two drivers"),
        Finding(Verdict.STOP, "measured_contact", "touches something else", "a/b", 0.01, 0.002),
        finding("deactivated"),
    ],
    ids=lambda one: one.code,
)
def test_a_cause_that_forbids_it_ends_a_retreat_at_once(cause: Finding) -> None:
    hall = in_the_table()
    free = in_the_table()
    free.retreat()
    start = len(hall.stream)
    hall.cycle.retreat(hall.answers.append)
    hall.step(200)
    speed = np.abs(hall.cycle.velocity).max()
    assert speed > 0.03
    hall.cycle.raise_cause(cause, once=True)
    ticks = 0
    while not hall.cycle.standing:
        hall.step()
        ticks += 1
    assert ticks < 40, "from a quarter of 0.3 rad/s"
    hall.step(2)
    assert cause.text in hall.answers[0].text
    assert hall.answers[0].moved
    still = len(hall.stream)
    hall.step(100)
    assert np.ptp(hall.since(still), axis=0).max() < 1e-9
    assert abs(hall.stream[-1][1] - free.stream[-1][1]) > 0.05, "not to its end"
    assert part(hall.since(start)[::5])
    hall.check()


def test_a_retreat_that_an_emergency_stop_has_ended_goes_on_only_after_a_clear() -> None:
    """The cause that is latched is still the collision: that an emergency stop came after it must not be forgotten."""
    hall = in_the_table()
    hall.cycle.retreat(hall.answers.append)
    hall.step(100)
    hall.cycle.estop()
    hall.step(60)
    assert hall.cycle.ladder.code == "collision"
    answer = hall.retreat()
    assert not answer.moved
    assert "estop" in answer.text
    assert "~/clear_fault" in answer.text
    hall.cycle.clear_fault()
    hall.step(3)
    assert hall.rung is Ladder.HOLD
    assert hall.retreat().moved
    hall.check()


@pytest.mark.parametrize(
    ("cause", "held"),
    [
        (finding("estop"), False),
        (Finding(Verdict.STOP, "second_publisher", "another node commands the arm"), True),
        (finding("estop_silent", value=1.0, limit=0.5), False),
        (Finding(Verdict.STOP, "liveliness_lost", "the driver was lost"), False),
        (Finding(Verdict.STOP, "internal_error", "a bug"), False),
        (finding("not_enabled", value=0.3, limit=0.2), True),
        (finding("driver_unconfirmed"), True),
        (finding("estop_waiting"), True),
    ],
    ids=lambda one: getattr(one, "code", ""),
)
def test_a_retreat_is_refused_for_a_cause_that_it_does_not_end(cause: Finding, held: bool) -> None:
    hall = Hall()
    hall.turn(0.3)
    hall.cycle.raise_cause(cause, once=not held)
    hall.step(30)
    still = len(hall.stream)
    answer = hall.retreat()
    assert not answer.moved
    assert cause.code in answer.text
    assert "see to it" in answer.text
    hall.step(60)
    assert np.ptp(hall.since(still), axis=0).max() < 1e-9


def test_every_cause_of_stop_or_hold_that_is_no_contact_and_no_pause_forbids_a_retreat() -> None:
    allowed = {code for code, cause in CAUSES.items() if cause.retreat}
    assert allowed == {
        "tracking_error", "measured_contact", "measured_workspace", "measured_zone",
        "effort_high", "effort_limit", "external_torque_high", "external_torque_limit",
        "no_chunk_yet", "retreating", "awaiting_resume", "chunk_timeout", "rows_exhausted", "generation_reset",
        "executor_lost",
    }  # fmt: skip
    assert may_retreat(Finding(Verdict.STOP, "collision", ""))
    assert not may_retreat(Finding(Verdict.STOP, "non_finite", ""))
    assert not may_retreat(Finding(Verdict.STOP, "finding_of_another_package", ""))


def test_states_that_are_old_refuse_a_retreat_and_end_one() -> None:
    hall = in_the_table()
    hall.states = False
    hall.step(40)  # longer, and the arm may stand anywhere: there is no way back
    assert not hall.retreat().moved
    hall.states = True
    hall.step(20)
    hall.cycle.retreat(hall.answers.append)
    hall.step(100)
    hall.states = False
    hall.settle()
    assert "old" in hall.answers[-1].text
    hall.check()


def test_an_arm_that_follows_chunks_is_not_led_back() -> None:
    hall = Hall()
    rows = np.repeat(hall.stream[-1][None], 40, axis=0)
    rows[:, 1] += 0.3 * np.arange(40) * PERIOD * 1e-9
    hall.offer(hall.chunk(rows, delay_ms=0))
    hall.step(20)
    assert hall.rung is Ladder.NOMINAL
    answer = hall.retreat()
    assert not answer.moved
    assert "NOMINAL" in answer.text
    hall.step(3)
    assert hall.rung is Ladder.NOMINAL


def test_a_way_back_that_leads_deeper_is_not_taken() -> None:
    """The arm began 4 mm in the table and was lifted by 3 of them: where it came from is further inside."""
    deep, shallow = lowered(0.004), lowered(0.001)
    hall = Hall(start=deep)
    hall.turn(shallow[1] - deep[1])
    assert depths(hall.since(-1))[0] == pytest.approx(0.001, abs=2e-4)
    hall.stop()
    still = len(hall.stream)
    answer = hall.retreat()
    assert not answer.moved
    assert "table" in answer.text
    assert "by hand" in answer.text
    hall.step(60)
    assert np.ptp(hall.since(still), axis=0).max() < 1e-9


def test_a_way_back_that_touches_again_is_taken_as_far_as_it_separates() -> None:
    """From contact up, down into it again, and stopped there: back is up first, and then down into it."""
    hall = Hall(tolerated=0.01, start=lowered(0.003))
    hall.turn(-0.15)
    hall.turn(0.147)
    assert 0.001 < depths(hall.since(-1))[0] < 0.003
    hall.find_out()
    hall.stop()
    start = len(hall.stream)
    while hall.retreat().moved:
        assert len(hall.answers) < 6
    assert any(one.moved and "not further" in one.text for one in hall.answers)
    assert "table" in hall.answers[-1].text
    assert part(hall.since(start - 1))
    assert np.ptp(hall.since(start - 1), axis=0).max() > 0.14


@pytest.mark.parametrize(("later", "ends"), [(21.0, False), (24.0, True)])
def test_an_effort_that_grows_on_the_way_back_ends_it_and_one_that_trembles_does_not(
    later: float, ends: bool
) -> None:
    def pushing(value: float) -> Finding:
        return Finding(Verdict.STOP, "effort_limit", "the joint pushes", "left_joint2", value, 15.0)

    hall = Hall()
    hall.turn(0.4)
    hall.cycle.raise_cause(pushing(20.0))
    hall.step(3)
    assert hall.rung is Ladder.STOP
    hall.cycle.retreat(hall.answers.append)
    hall.step(60)
    assert hall.cycle.retreating
    hall.cycle.raise_cause(pushing(later))
    hall.settle()
    assert hall.answers[0].moved
    assert ("the joint pushes" in hall.answers[0].text) == ends


def test_an_arm_that_has_not_moved_has_no_way_back() -> None:
    hall = Hall(start=lowered(0.002))
    hall.stop()
    answer = hall.retreat()
    assert not answer.moved
    assert "needed 0.001" in answer.text
    assert "by hand" in answer.text


def test_a_second_retreat_leads_further_back_and_never_forth_again() -> None:
    hall = Hall(tolerated=0.01)
    hall.turn(-0.9, joint=0)
    hall.turn(lowered(0.003)[1] - HOME[1])
    hall.find_out()
    hall.stop()
    places = [hall.stream[-1]]
    while hall.retreat().moved:
        places.append(hall.stream[-1])
        assert len(places) < 6
    assert len(places) > 3
    left = np.abs(np.array(places) - HOME)
    assert left[0].max() > 0.8
    assert (np.diff(left[:, :2], axis=0) < 1e-6).all()
    assert left[-1].max() < 0.01, "where the commands began"
    assert "needed 0.001" in hall.answers[-1].text
    hall.check()


def test_a_retreat_that_was_stopped_goes_on_from_there() -> None:
    hall = in_the_table()
    free = in_the_table()
    free.retreat()
    hall.cycle.retreat(hall.answers.append)
    hall.step(150)
    hall.cycle.raise_cause(finding("not_enabled", value=0.3, limit=0.2))
    hall.settle()
    hall.cycle.withdraw_cause("not_enabled")
    hall.step(2)
    start = len(hall.stream)
    assert hall.retreat().moved
    back = hall.since(start - 1)
    assert (np.diff(back[:, 1]) <= 1e-9).all(), "up all the way"
    assert back[-1][1] <= free.stream[-1][1] + 1e-3


def test_an_arm_that_is_blocked_short_of_its_command_is_relieved() -> None:
    """The model does not have what blocks it: tracking_error, and every clear was answered by it."""
    hall = Hall(filters_off=("collision",))
    wall = HOME[0] - 0.15

    def blocked(ticks: int) -> None:
        for _ in range(ticks):
            hall.step()
            hall.measured = hall.measured.copy()
            hall.measured[0] = max(hall.measured[0], wall)

    rows = np.repeat(hall.stream[-1][None], 50, axis=0)
    rows[:, 0] -= np.minimum(0.4 * np.arange(50) * PERIOD * 1e-9, 0.42)
    hall.offer(hall.chunk(rows, delay_ms=0))
    blocked(250)
    assert hall.cycle.ladder.code == "tracking_error"
    hall.cycle.retreat(hall.answers.append)
    while not hall.answers:
        blocked(1)
    assert hall.answers[0].moved, hall.answers[0].text
    assert hall.stream[-1][0] > wall
    assert hall.cycle.tracking_error < 0.05
    hall.cycle.clear_fault()
    blocked(5)
    assert hall.rung is Ladder.HOLD
    hall.check()


def test_an_arm_that_gets_further_from_its_command_ends_a_retreat() -> None:
    hall = Hall()
    hall.turn(0.3)
    hall.measured = hall.stream[-1].copy()
    hall.cycle.retreat(hall.answers.append)
    held = hall.stream[-1].copy()
    while not hall.answers:
        hall.step()
        hall.measured = held - 0.005 * (np.arange(14) == 3) * min(len(hall.stream), 100)
    assert "away from its command" in hall.answers[0].text
    assert hall.rung is Ladder.STOP
    hall.check()


def test_a_measured_arm_that_is_too_far_from_its_command_is_not_led_anywhere() -> None:
    hall = in_the_table()
    for _ in range(30):
        hall.measured = hall.stream[-1] + 0.5 * (np.arange(14) == 3)
        hall.step()
    hall.cycle.retreat(hall.answers.append)
    hall.measured = hall.stream[-1] + 0.5 * (np.arange(14) == 3)
    hall.step()
    assert not hall.answers[0].moved
    assert "check the sensor" in hall.answers[0].text


def test_fast_motions_are_gone_back_below_the_reduced_speed_of_tools() -> None:
    hall = Hall()
    hall.turn(0.45, speed=0.5)
    hall.turn(1.4, speed=1.4, joint=0)
    came = JUDGE.tool_speeds(hall.since(0), period=0.01)
    start = len(hall.stream)
    assert max(came.values()) > 0.3
    hall.cycle.retreat(hall.answers.append)
    hall.settle()
    assert hall.answers[0].moved
    assert max(JUDGE.tool_speeds(hall.since(start - 1), period=0.01).values()) < 0.25
    hall.check()


def test_a_gripper_goes_on_holding_what_it_holds() -> None:
    gripper = ROBOT.joint_names.index("left_gripper")
    hall = Hall()
    hall.turn(0.3)
    hall.turn(0.03, joint=gripper, speed=0.03)
    assert hall.stream[-1][gripper] > HOME[gripper] + 0.015
    held = hall.stream[-1][gripper]
    start = len(hall.stream)
    assert hall.retreat().moved
    assert np.abs(hall.since(start)[:, gripper] - held).max() < 1e-9
    assert np.ptp(hall.since(start)[:, 1]) > 0.1


def test_a_plan_that_is_made_beside_the_command_thread_is_taken_when_it_is_there() -> None:
    hall = in_the_table()
    planning = hall.cycle.planning
    planning.start()
    try:
        planning.answered.clear()
        start = len(hall.stream)
        hall.cycle.retreat(hall.answers.append)
        hall.step()
        assert planning.answered.wait(30.0)
        hall.step()
        hall.settle()
    finally:
        planning.stop()
    assert hall.answers[0].moved, hall.answers[0].text
    assert depths(hall.since(-1))[0] < -0.02
    assert len(hall.stream) > start + 100
    hall.check()


def test_a_request_that_no_step_deals_with_is_answered() -> None:
    hall = in_the_table()
    hall.cycle.retreat(hall.answers.append)
    hall.cycle.abandon("the node was deactivated")
    assert "deactivated" in hall.answers[0].text
    hall.cycle.retreat(hall.answers.append)
    hall.step(50)
    hall.cycle.abandon("the node was deactivated")
    assert "deactivated" in hall.answers[1].text
