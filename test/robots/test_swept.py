# SPDX-License-Identifier: Apache-2.0
"""A motion that passes keeps every margin at every point, and one that keeps them with a little room passes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("pinocchio", reason="pin is not installed (make setup)")

import pinocchio as pin
from path_oracle import PathOracle, fine

from wam.devices.loader import load_robot
from wam.robots.collision import DEEPENING, SEPARATED, PinocchioChecker
from wam.robots.description import RobotDescription
from wam.robots.swept import RESOLUTION

ROBOTS = ("piper", "franka", "ur5e_inspire")


class Scene:
    """A robot, its checker and the oracle."""

    def __init__(self, name: str) -> None:
        self.robot: RobotDescription = load_robot(name)
        self.checker = PinocchioChecker(self.robot)
        self.oracle = PathOracle(self.robot)
        self.home = np.array([joint.home for joint in self.robot.joints])
        limits = self.robot.limits()
        self.lower, self.upper = limits.lower, limits.upper

    def free(self, rng: np.random.Generator, spread: float = 0.3) -> np.ndarray:
        while True:
            state = self.around(self.home, rng, spread)
            if self.oracle.clearances(state).min() > 0.002:
                return state

    def around(self, state: np.ndarray, rng: np.random.Generator, spread: float) -> np.ndarray:
        return np.clip(state + rng.uniform(-spread, spread, len(state)), self.lower, self.upper)


@pytest.fixture(scope="module", params=ROBOTS)
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


@pytest.fixture(scope="module")
def piper() -> Scene:
    return Scene("piper")


def lowered(scene: Scene, depth: float) -> np.ndarray:
    """Return a state in which the left arm is `depth` [m] inside the table, by its second joint."""
    low, high = scene.home.copy(), scene.home.copy()
    high[1] += 1.2
    env = [number for number, pair in enumerate(scene.checker.pairs) if "table" in pair.names]
    for _ in range(60):
        state = 0.5 * (low + high)
        if scene.checker.sweep.distances(state, env).min() > -depth:
            low = state
        else:
            high = state
    return low


def moved(state: np.ndarray, joint: int, by: float, rows: int = 40) -> np.ndarray:
    """Return rows that move one joint smoothly from rest to rest."""
    result = np.repeat(state[None], rows, axis=0)
    result[:, joint] += by * 0.5 * (1.0 - np.cos(np.linspace(0.0, np.pi, rows)))
    return result


def test_no_point_of_a_body_moves_further_than_the_bound(scene: Scene) -> None:
    """The bound is what everything rests on: held against the bodies' own corners over finite motions."""
    rng = np.random.default_rng(3)
    geometry, oracle = scene.checker.pinocchio[2], scene.oracle
    data = oracle.model.createData()
    bodies = geometry.geometryObjects
    corners = []
    for body in bodies:
        body.geometry.computeLocalAABB()
        box = body.geometry.aabb_local
        ends = np.stack((np.ravel(box.min_), np.ravel(box.max_)))
        local = np.array(
            [[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        )
        corners.append(local @ body.placement.rotation.T + body.placement.translation)
    tightest = 0.0
    for _ in range(60):
        one = rng.uniform(scene.lower, scene.upper)
        other = scene.around(one, rng, float(rng.choice([0.01, 0.2])))
        places = []
        for state in (one, other):
            pin.forwardKinematics(oracle.model, data, oracle.configuration(state))
            places.append([one.copy() for one in data.oMi])
        bound = scene.checker.sweep.weights @ np.abs(other - one)
        for number, pair in enumerate(geometry.collisionPairs):
            ends = (pair.first, pair.second)
            joints = [bodies[end].parentJoint for end in ends]
            shared = set(oracle.model.supports[joints[0]]) & set(oracle.model.supports[joints[1]])
            frame = max(shared)  # the last joint that carries both
            total = 0.0
            for end, joint in zip(ends, joints, strict=True):
                seen = [at[frame].actInv(at[joint]) for at in places]
                travel = [np.array([one.act(point) for point in corners[end]]) for one in seen]
                total += np.linalg.norm(travel[1] - travel[0], axis=1).max()
            assert total <= bound[number] + 1e-9, scene.checker.pairs[number].names
            tightest = max(tightest, total / max(bound[number], 1e-9))
    assert tightest > 0.4, "the bound is far from what bodies do: it would refuse what is free"


def test_a_touch_and_back_between_two_rows_is_refused_and_one_a_millimetre_short_passes(scene: Scene) -> None:
    """A turning point between two states 0.05 rad apart was missed: the arm touched and nothing had seen it."""
    rng = np.random.default_rng(11)
    refused = passed = 0
    while refused < 12:
        start = scene.free(rng)
        goal = scene.around(start, rng, 1.0)
        states = fine(np.stack((start, goal)), 60)
        first = scene.oracle.breaks(states)
        if first is None:
            continue
        turns = {}
        for clearance in (-0.0003, 0.001):
            low, high = states[max(first - 8, 0)], states[first]
            if not scene.oracle.clearances(low).min() > clearance:
                break
            for _ in range(30):
                middle = 0.5 * (low + high)
                if scene.oracle.clearances(middle).min() > clearance:
                    low = middle
                else:
                    high = middle
            turns[clearance] = low if clearance > 0 else high
        if len(turns) < 2:
            continue
        assert scene.checker.check_path(np.stack((start, turns[-0.0003], start))) is not None
        refused += 1
        there = np.stack((start, turns[0.001], start))
        if all(scene.oracle.clearances(state).min() > 0.00095 for state in fine(there, 60)):
            assert scene.checker.check_path(there) is None
            passed += 1
    assert passed >= 6


def test_a_motion_in_which_fine_samples_find_a_violation_never_passes(scene: Scene) -> None:
    rng = np.random.default_rng(5)
    violations = passes = 0
    for _ in range(24):
        rows = [scene.free(rng)]
        for _ in range(3):
            rows.append(scene.around(rows[-1], rng, 0.7))
        motion = np.stack(rows)
        contact = scene.checker.check_path(motion)
        at = scene.oracle.breaks(fine(motion))
        if at is not None:
            violations += 1
            assert contact is not None
            assert contact.index <= np.ceil(at / 1999 * 3)
        passes += contact is None
    assert violations >= 3
    assert passes >= 3


def test_sliding_three_millimetres_above_the_table_passes(piper: Scene) -> None:
    above = lowered(piper, -0.003)
    assert piper.checker.check_path(moved(above, 0, 0.6, rows=75)) is None


def test_the_contact_names_the_links_the_row_and_what_is_left(piper: Scene) -> None:
    rows = moved(lowered(piper, -0.02), 1, 0.3)
    contact = piper.checker.check_path(rows)
    assert contact is not None
    assert "table" in (contact.first, contact.second)
    at = piper.oracle.breaks(rows)
    assert at is not None
    assert contact.index in (at - 1, at)
    assert contact.distance <= contact.margin == 0.0


def test_an_arm_inside_the_table_never_gets_deeper_in_a_minute_of_chunks(piper: Scene) -> None:
    """Deepening was allowed anew in every chunk: 0.5 mm had become 13.8 mm after 60 s."""
    checker = piper.checker
    begin = lowered(piper, 0.0005)
    before = piper.oracle.clearances(begin).min()
    for rate in (0.00003, 0.0003, 0.003):
        at = begin.copy()
        checker.rebase(at)
        accepted = 0
        for _ in range(600):
            checker.note(at)
            rows = moved(at, 1, rate, rows=16)
            if checker.check_path(rows) is None:
                accepted += 1
                at = rows[-1]
        assert piper.oracle.clearances(at).min() >= before - DEEPENING - RESOLUTION, rate
        assert accepted < 100


def test_refused_and_forgotten_motions_leave_the_baseline_where_it_was(piper: Scene) -> None:
    checker, inside = piper.checker, lowered(piper, 0.001)
    deeper = lowered(piper, 0.0012)
    checker.rebase(inside)
    checker.note(inside)
    away = moved(inside, 1, -0.2)
    assert checker.check_path(away) is None, "accepted, but the arm never plays it"
    assert checker.check_path(moved(inside, 1, 0.1)) is not None
    # The baseline still holds: the arm may tremble about it.
    assert checker.check_path(np.stack((deeper, inside, deeper))) is None


def test_a_pair_that_has_separated_has_no_baseline_any_more(piper: Scene) -> None:
    checker, inside, above = piper.checker, lowered(piper, 0.001), lowered(piper, -0.01)
    deeper = lowered(piper, 0.0012)
    checker.rebase(inside)
    assert checker.check_path(np.stack((inside, deeper, inside))) is None, "it trembles"
    checker.note(above)
    assert checker.check_path(np.stack((inside, deeper, inside))) is not None
    assert checker.check_path(np.stack((above, inside, above))) is not None


@pytest.mark.parametrize("depth", [0.0, 0.001, 0.003, 0.005])
@pytest.mark.parametrize("seeded", [True, False])
def test_an_arm_inside_the_table_may_rise_and_may_not_come_back(
    piper: Scene, depth: float, seeded: bool
) -> None:
    """Every clear of an arm 1-5 mm inside the table was answered by STOP for 40 s."""
    checker = piper.checker
    inside = lowered(piper, depth)
    checker.rebase(inside if seeded else piper.home)
    up = moved(inside, 1, -0.2)
    assert checker.check_path(up) is None
    assert checker.check_path(np.repeat(inside[None], 5, axis=0)) is None, "it may stand still"
    down = moved(inside, 1, 0.05)
    assert checker.check_path(down) is not None
    contact = checker.check_path(np.concatenate((up, up[::-1])))
    assert contact is not None
    assert contact.index > len(up)


def test_a_motion_that_has_to_separate_never_comes_closer_again(piper: Scene) -> None:
    checker = piper.checker
    deep, shallow = lowered(piper, 0.004), lowered(piper, 0.001)
    rows = np.concatenate((np.linspace(deep, shallow, 30), np.linspace(shallow, lowered(piper, 0.003), 30)))
    out = np.linspace(lowered(piper, 0.003), lowered(piper, -0.02), 60)
    assert checker.check_path(np.concatenate((rows, out))) is None, "it goes no deeper than it began"
    contact = checker.check_path(np.concatenate((rows, out)), separating=True)
    assert contact is not None
    assert "table" in (contact.first, contact.second)
    assert 30 <= contact.index <= 33
    for depth in (0.0, 0.001, 0.004):
        up = np.linspace(lowered(piper, depth), lowered(piper, -0.02), 60)
        assert checker.check_path(up, separating=True) is None
        assert checker.check_path(np.repeat(up[:1], 5, axis=0), separating=True) is None
        contact = checker.check_path(np.concatenate((up, up[::-1])), separating=True)
        assert contact is not None
        assert contact.index > 60


def test_a_long_motion_that_begins_on_a_body_is_looked_at_as_finely_as_a_short_one(piper: Scene) -> None:
    """A pair that began in contact was sampled a thousand times along the whole motion: within the first centimetres
    of one of five seconds the arm could dip 2 mm into what it stood on and come back, unseen."""
    checker, on = piper.checker, lowered(piper, 0.0)
    checker.rebase(piper.home)
    down = moved(on, 1, 0.006, rows=20)
    dip, rise = np.concatenate((down, down[::-1])), moved(on, 1, -0.3, rows=60)
    phase = np.linspace(0.0, 16.0 * np.pi, 400)[:, None]
    about = rise[-1] + 0.25 * np.sin(phase) * np.isin(np.arange(len(on)), (0, 3, 4, 5))
    assert piper.oracle.clearances(down[-1]).min() < piper.oracle.clearances(on).min() - 0.0015
    assert checker.check_path(np.concatenate((rise, about))) is None
    contact = checker.check_path(np.concatenate((dip, rise, about)))
    assert contact is not None
    assert contact.index < len(dip)


def test_a_baseline_is_no_leave_to_stay_for_a_motion_that_has_to_separate(piper: Scene) -> None:
    checker, inside, deeper = piper.checker, lowered(piper, 0.001), lowered(piper, 0.0012)
    checker.rebase(inside)
    assert checker.check_path(np.stack((inside, deeper, inside))) is None, "an arm that rests trembles"
    assert checker.check_path(np.stack((inside, deeper, inside)), separating=True) is not None
    checker.rebase(piper.home)


def test_arms_within_their_margin_may_part(piper: Scene) -> None:
    checker = piper.checker
    both = piper.home.copy()
    for name, value in (("joint1", -1.57), ("joint2", 1.5), ("joint3", -1.0)):
        both[piper.robot.joint_names.index(f"left_{name}")] = value
        both[piper.robot.joint_names.index(f"right_{name}")] = -value if name == "joint1" else value
    low, high = piper.home.copy(), both
    arms = [n for n, p in enumerate(checker.pairs) if p.names[0][:4] == "left" and p.names[1][:5] == "right"]
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if checker.sweep.distances(middle, arms).min() > 0.005 else (low, middle)
    close = low
    assert 0.004 < checker.sweep.distances(close, arms).min() < 0.006
    checker.rebase(close)
    assert checker.check_path(np.linspace(close, piper.home, 60)) is None
    assert checker.check_path(np.linspace(close, both, 60)) is not None


def test_a_motion_ends_the_moment_one_row_repeats_another(piper: Scene) -> None:
    assert piper.checker.check_path(np.repeat(piper.home[None], 30, axis=0)) is None
    assert piper.checker.check_path(piper.home[None]) is None


def test_a_motion_with_a_value_that_is_no_number_never_passes(piper: Scene) -> None:
    rows = moved(piper.home, 0, 0.1)
    rows[20, 3] = np.nan
    with np.errstate(invalid="ignore"):
        assert piper.checker.check_path(rows) is not None


def test_the_allowance_of_a_contact_is_less_than_what_counts_as_separated() -> None:
    assert DEEPENING + RESOLUTION < SEPARATED


def test_a_pair_that_has_left_its_baseline_within_a_motion_keeps_its_margin_from_then_on(
    piper: Scene,
) -> None:
    """A motion that lifted the arm off the table by 82 mm could end 4.8 mm inside the table somewhere else."""
    begins = lowered(piper, 0.005)
    over, ends = begins.copy(), begins.copy()
    over[1] -= 0.3
    beside, ends[0] = over.copy(), begins[0] + 0.2
    beside[0] = ends[0]
    table = [number for number, pair in enumerate(piper.checker.pairs) if "table" in pair.names]
    assert piper.checker.sweep.distances(ends, table).min() < -0.003
    places = (begins, over, beside, ends)
    rows = np.concatenate([np.linspace(one, other, 30) for one, other in pairwise(places)])
    checker = piper.checker
    checker.rebase(begins)
    assert checker.check_path(rows[:61]) is None, "it may leave"
    contact = checker.check_path(rows)
    assert contact is not None
    assert contact.margin == 0.0
    assert checker.check_path(rows[61:]) is not None, "also where nobody has noted that it has left"
    trembles = np.linspace(begins, begins + 1e-5 * (np.arange(len(begins)) == 1), 5)
    assert checker.check_path(trembles) is None
    checker.rebase(piper.home)
