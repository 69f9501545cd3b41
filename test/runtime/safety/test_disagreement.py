# SPDX-License-Identifier: Apache-2.0
"""Two publishers that disagree about a joint hold the arm and are named; those that agree, or share joints, do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safety_world import HOME, MS, ROBOT, World, running

from wam.core.verdict import Ladder
from wam.runtime.safety.disagreement import AGREE_MOST, CODE, LASTS_NS, DriverDisagreement
from wam.runtime.safety.mailbox import Mailbox

GROUP = ROBOT.groups[0]
NAMES = GROUP.driver_names
DRIVER, OTHER, THIRD = b"driver", b"other", b"third"
AGE_NS = GROUP.state_max_age_ns
TOLERANCE = [min(0.02, 0.01 * (joint.upper - joint.lower)) for joint in GROUP.joints]


def message(positions: dict[str, float]) -> SimpleNamespace:
    """A joint state, of joints by driver name, in SI units."""
    factors = dict(zip(NAMES, GROUP.state_factors.tolist(), strict=True))
    return SimpleNamespace(
        name=list(positions),
        position=[value / factors.get(name, 1.0) for name, value in positions.items()],
    )


def watch_of(mailbox: Mailbox) -> DriverDisagreement:
    return DriverDisagreement(
        GROUP, topic="/states", mailbox=mailbox, describe=lambda gid: f"/{gid.decode()}"
    )


def causes(mailbox: Mailbox) -> list[str]:
    return [f"{cause.code}: {cause.text}" for cause in mailbox.take_mail(leave_chunk=True).causes]


class Drivers:
    """A running world whose left arm is also reported by others, as `also` says."""

    def __init__(self) -> None:
        self.world: World = running()
        self.world.amplitude = 0.02  # where the arm is held, it is never far from what the policy wants
        self.watch = watch_of(self.world.cycle)
        self.also: Callable[[dict[str, float]], list[tuple[bytes, dict[str, float], int]]] = lambda _: []

    def step(self, ticks: int) -> None:
        """Let time pass; the driver reports every tick."""
        for _ in range(ticks):
            now_ns = self.world.now_ns
            true = dict(zip(NAMES, self.world.measured[:7].tolist(), strict=True))
            for sender, positions, stamp_ns in [(DRIVER, true, now_ns), *self.also(true)]:
                self.watch.take(message(positions), sender=sender, stamp_ns=stamp_ns, receive_ns=now_ns)
            self.watch.settle(now_ns)
            self.world.step()


def test_the_arm_is_held_while_two_publishers_disagree_and_goes_on_by_itself_afterwards() -> None:
    """The first one stayed in force and the other was refused; nothing was held for what they said."""
    drivers = Drivers()
    world = drivers.world
    drivers.also = lambda true: [(OTHER, dict.fromkeys(NAMES, 0.0), world.now_ns)]
    drivers.step(2)
    assert world.rung is Ladder.HOLD
    (event,) = (one for one in world.events if one.finding.code == CODE)
    text, joint = event.finding.text, event.finding.joint
    value = HOME[ROBOT.joint_names.index(joint)]
    assert text.startswith(f"{joint} is reported at ")
    assert "by /driver and 0 " in text
    assert "by /other, both on /states" in text
    assert event.finding.value == pytest.approx(abs(value), abs=0.16)
    drivers.step(20)
    assert world.rung is Ladder.HOLD
    drivers.also = lambda _: []
    drivers.step(LASTS_NS // (10 * MS) - 5)
    assert world.rung is Ladder.HOLD
    drivers.step(60)
    assert world.rung is Ladder.NOMINAL
    world.check()


def test_a_forgotten_publisher_of_once_a_second_does_not_let_the_arm_go_between_its_messages() -> None:
    drivers = Drivers()
    world = drivers.world
    drivers.also = lambda true: (
        [(OTHER, dict.fromkeys(NAMES, 0.0), world.now_ns)] if world.tick % 100 == 0 else []
    )
    drivers.step(150)
    before = len(world.events)
    drivers.step(300)
    assert {event.after for event in world.events[before:]} <= {Ladder.HOLD}


def part(true: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    return {name: true[name] for name in names}


FINE: dict[str, Callable[[World, dict[str, float]], list[tuple[bytes, dict[str, float], int]]]] = {
    "a duplicate that is 20 ms late": lambda world, true: [(OTHER, true, world.now_ns - 20 * MS)],
    "a gripper from a node of its own": lambda world, true: [(OTHER, part(true, NAMES[6:]), world.now_ns)],
    "wheels": lambda world, true: [(OTHER, {"wheel": 5.0}, world.now_ns)],
    "a recording of last year": lambda world, true: [(OTHER, dict.fromkeys(NAMES, 0.0), 10**15)],
    "a message of no positions": lambda world, true: [(OTHER, {}, world.now_ns)],
    "a node that does not know where a joint is": lambda world, true: [
        (OTHER, {NAMES[0]: float("nan")}, world.now_ns)
    ],
}


@pytest.mark.parametrize("name", FINE)
def test_publishers_that_do_not_contradict_the_driver_hold_nothing(name: str) -> None:
    """Arm and gripper from two nodes on one topic were taken for two drivers and held."""
    drivers = Drivers()
    drivers.also = lambda true: FINE[name](drivers.world, true)
    drivers.step(100)
    assert drivers.world.rung is Ladder.NOMINAL
    assert CODE not in drivers.world.codes()


def test_a_publisher_in_degrees_disagrees_although_its_positions_are_impossible() -> None:
    mailbox = Mailbox()
    watch = watch_of(mailbox)
    watch.take(message({NAMES[1]: 1.0}), sender=DRIVER, stamp_ns=0, receive_ns=0)
    watch.take(message({NAMES[1]: 57.3}), sender=OTHER, stamp_ns=0, receive_ns=0)
    watch.settle(0)
    (cause,) = causes(mailbox)
    assert "57.3 rad by /other" in cause


def test_two_publishers_of_which_the_middleware_tells_no_sender_are_not_compared() -> None:
    mailbox = Mailbox()
    watch = watch_of(mailbox)
    for value in (0.0, 1.0):
        watch.take(message({NAMES[1]: value}), sender=b"", stamp_ns=0, receive_ns=0)
    watch.settle(0)
    assert causes(mailbox) == []


@st.composite
def said(draw: st.DrawFn) -> list[tuple[bytes, int, dict[str, float]]]:
    """Messages of up to three publishers as sender, stamp and positions: layouts in any order, shared or not."""
    layouts = {
        sender: draw(
            st.permutations(draw(st.lists(st.sampled_from((*NAMES, "wheel")), unique=True, min_size=1)))
        )
        for sender in (DRIVER, OTHER, THIRD)
    }
    lie = draw(st.sampled_from((0.0, 0.01, AGREE_MOST + 0.001, 0.3)))
    stamp_ns, sent = 10**18, []
    for _ in range(draw(st.integers(1, 15))):
        sender = draw(st.sampled_from((DRIVER, OTHER, THIRD)))
        stamp_ns += draw(st.integers(0, AGE_NS))
        names = layouts[sender]
        names = names[: draw(st.integers(1, len(names)))]
        sent.append((sender, stamp_ns, {name: lie if sender == THIRD else 0.0 for name in names}))
    return sent


@given(said())
def test_a_pair_is_told_if_and_only_if_two_newest_positions_of_one_joint_differ_by_more_than_it_may_move(
    sent: list[tuple[bytes, int, dict[str, float]]],
) -> None:
    """Held to a table of who said what when, for any number of publishers, layouts, orders and duplicates."""
    newest: dict[tuple[bytes, str], tuple[int, float]] = {}
    expected = False
    mailbox = Mailbox()
    watch = watch_of(mailbox)
    for sender, stamp_ns, positions in sent:
        # All is received at once: what is looked at here are stamps.
        watch.take(message(positions), sender=sender, stamp_ns=stamp_ns, receive_ns=0)
        newest |= {(sender, name): (stamp_ns, value) for name, value in positions.items()}
        for i, joint in enumerate(GROUP.joints):
            known = [newest[one, NAMES[i]] for one in (DRIVER, OTHER, THIRD) if (one, NAMES[i]) in newest]
            for (at, a), (bt, b) in itertools.combinations(known, 2):
                fresh = abs(at - bt) <= AGE_NS
                expected |= fresh and abs(a - b) > TOLERANCE[i] + joint.velocity * abs(at - bt) * 1e-9
    watch.settle(0)
    assert bool(causes(mailbox)) == expected
