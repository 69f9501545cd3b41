# SPDX-License-Identifier: Apache-2.0
"""Emergency stop sources: who holds a true, who is absent, and what it takes to move again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wam.core.clock import NS_PER_MS, NS_PER_S, ManualClock
from wam.core.errors import ConfigError
from wam.core.ladder import CAUSES
from wam.core.verdict import Ladder
from wam.runtime.safety.estop import (
    ANONYMOUS,
    GRAPH_LAG_NS,
    START_NS,
    EstopMonitor,
    SourceRule,
)

BEAT_NS = 250 * NS_PER_MS
A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


class Desk:
    """A monitor of one source, and the clock it runs on."""

    def __init__(self, *, heartbeat_ns: int = 0, required: bool = False, stateful: bool = False) -> None:
        self.clock = ManualClock(NS_PER_S)
        self.shown: tuple[bytes, ...] = ()
        rule = SourceRule("desk", heartbeat_ns, required, stateful)
        self.monitor = EstopMonitor([rule], clock=self.clock.now_ns)

    def start(self) -> None:
        """Activate the node, which looks at the graph at once."""
        self.monitor.activate()
        self.look(*self.shown)

    def hear(self, publisher: bytes, pressed: bool, *, live: bool = True, sequence: int = 0) -> bool:
        return self.monitor.hear("desk", publisher, pressed, live=live, sequence=sequence)

    def look(self, *publishers: bytes, latching: tuple[bytes, ...] = ()) -> None:
        self.shown = publishers
        self.monitor.look("desk", publishers, latching)

    def wait(self, duration_ns: int) -> None:
        self.clock.advance(duration_ns)

    @property
    def codes(self) -> set[str]:
        return {one.code for one in self.monitor.findings()}

    @property
    def rung(self) -> Ladder:
        return max((CAUSES[code].rung for code in self.codes), default=Ladder.NOMINAL)


@pytest.fixture
def button() -> Desk:
    """A button that must be there, with a heartbeat; the node is active."""
    desk = Desk(heartbeat_ns=BEAT_NS, required=True)
    desk.start()
    return desk


@pytest.fixture
def topic() -> Desk:
    """The topic `estop` of a robot without configured sources; the node is active."""
    desk = Desk()
    desk.start()
    return desk


def test_a_topic_that_nobody_publishes_is_no_source(topic: Desk) -> None:
    topic.look()
    assert topic.codes == set()
    assert topic.monitor.release() == ""


def test_one_button_cannot_release_another(topic: Desk) -> None:
    """The last message won, whoever had sent it: B's false released A's button and clear_fault succeeded."""
    topic.hear(A, True)
    topic.hear(B, False)
    assert topic.codes == {"estop"}
    assert "pressed" in topic.monitor.release()
    topic.hear(A, False)
    assert topic.codes == set()
    assert topic.monitor.release() == ""


def test_a_true_that_was_latched_before_the_activation_stops_after_it() -> None:
    """A button that was held before the node started was not heard, and the arm moved."""
    desk = Desk()
    desk.hear(A, True, live=False)
    desk.start()
    assert desk.rung is Ladder.STOP
    desk.hear(A, False)
    assert desk.codes == set()


def test_a_button_that_was_pressed_when_it_went_is_still_pressed_after_a_new_activation(topic: Desk) -> None:
    topic.hear(A, True)
    topic.look(A)
    topic.look()
    topic.start()
    assert "estop" in topic.codes


def test_the_arm_holds_until_what_was_latched_has_come(topic: Desk) -> None:
    """The arm began to move before the latched true of a button, which the graph showed already, had arrived."""
    topic.look(A, latching=(A,))
    topic.monitor.activate()
    topic.look(A, latching=(A,))
    assert topic.codes == {"estop_waiting"}
    topic.hear(A, True, live=False)
    assert topic.codes == {"estop"}
    topic.hear(A, False)
    topic.look(A, latching=(A,))
    assert topic.codes == set()


def test_a_publisher_that_has_never_said_a_word_is_not_waited_for_longer_than_the_graph_lags(
    topic: Desk,
) -> None:
    topic.monitor.activate()
    topic.look(A, latching=(A,))
    topic.wait(GRAPH_LAG_NS + 1)
    topic.look(A, latching=(A,))
    assert topic.codes == set()


def test_a_latched_false_does_not_arm_and_a_live_one_does(topic: Desk) -> None:
    topic.hear(A, False, live=False, sequence=3)
    assert topic.codes == {"estop_waiting"}
    assert "press and release" in topic.monitor.release()
    topic.hear(A, False, live=True, sequence=4)
    assert topic.codes == set()


def test_the_live_copy_of_a_message_arms_although_the_other_reader_was_first(topic: Desk) -> None:
    topic.hear(A, False, live=False, sequence=3)
    topic.hear(A, False, live=True, sequence=3)
    assert topic.codes == set()


def test_what_came_before_the_activation_does_not_arm() -> None:
    desk = Desk(heartbeat_ns=BEAT_NS, required=True)
    desk.hear(A, False)
    desk.start()
    assert desk.codes == {"estop_waiting"}
    desk.hear(A, False)
    assert desk.codes == set()
    desk.start()
    assert desk.codes == {"estop_waiting"}


def test_the_state_of_a_driver_may_be_older_than_the_activation() -> None:
    """ur_robot_driver publishes its safety mode on change only, and latched: waiting for a newer one takes forever."""
    desk = Desk(stateful=True)
    desk.hear(A, False, live=False)
    desk.start()
    assert desk.codes == set()
    desk.hear(A, True)
    assert desk.codes == {"estop"}
    desk.start()
    assert desk.codes == {"estop"}


def test_a_required_source_holds_until_it_is_there_and_stops_if_it_does_not_come(button: Desk) -> None:
    assert button.rung is Ladder.HOLD
    assert "absent" in button.monitor.release()
    button.wait(START_NS + 1)
    assert button.rung is Ladder.STOP
    button.hear(A, False)
    assert button.rung is Ladder.NOMINAL
    assert button.monitor.release() == ""


def test_silence_beyond_the_heartbeat_is_a_stop_that_no_clear_lifts(button: Desk) -> None:
    button.hear(A, False)
    button.wait(BEAT_NS)
    assert button.codes == set()
    button.wait(1)
    assert button.codes == {"estop_silent"}
    assert "absent" in button.monitor.release()
    button.hear(A, False)
    assert button.codes == set()


def test_a_late_latched_sample_is_no_heartbeat(button: Desk) -> None:
    """A second reader may get the last latched sample again, of a publisher that is stuck."""
    button.hear(A, False, sequence=1)
    button.wait(BEAT_NS + 1)
    button.hear(A, False, live=False, sequence=1)
    assert button.codes == {"estop_silent"}


def test_a_publisher_that_leaves_the_graph_is_a_stop_which_a_person_may_clear(topic: Desk) -> None:
    """All publishers of the topic were gone, and the arm moved on: nothing watched them."""
    topic.hear(A, False)
    topic.look(A)
    assert topic.codes == set()
    topic.look()
    assert topic.codes == {"estop_silent"}
    assert topic.monitor.release() == ""
    assert topic.codes == set()


def test_a_publisher_that_was_pressed_when_it_went_is_only_released_by_its_successor(topic: Desk) -> None:
    topic.hear(A, True)
    topic.hear(B, False)
    topic.look(A, B)
    topic.look(B)
    topic.hear(B, False)
    assert {"estop", "estop_silent"} == topic.codes
    assert "start it again" in topic.monitor.release()
    topic.wait(1)
    topic.hear(C, False)
    assert topic.codes == set()
    assert topic.monitor.release() == ""


def test_a_stop_that_was_sent_by_hand_is_released_by_hand(topic: Desk) -> None:
    """`ros2 topic pub -1` comes, says one word and goes, both times."""
    topic.hear(A, True)
    topic.look(A)
    topic.look()
    assert topic.monitor.release() != ""
    topic.wait(1)
    topic.hear(B, False)
    topic.look(B)
    topic.look()
    assert topic.codes == {"estop_silent"}
    assert topic.monitor.release() == ""
    assert topic.codes == set()


def test_one_successor_takes_one_place(topic: Desk) -> None:
    topic.hear(A, True)
    topic.hear(B, True)
    topic.look(A, B)
    topic.look()
    topic.wait(1)
    topic.hear(C, False)
    topic.hear(C, False)
    assert "estop" in topic.codes


def test_an_older_message_that_comes_late_changes_nothing(topic: Desk) -> None:
    """The same messages come through several readers, which do not keep an order among themselves."""
    topic.hear(A, True, sequence=1)
    topic.hear(A, False, sequence=2)
    assert not topic.hear(A, True, live=False, sequence=1)
    assert topic.codes == set()
    topic.hear(A, True, sequence=3)
    topic.hear(A, False, live=False, sequence=2)
    assert topic.codes == {"estop"}


def test_every_true_asks_for_a_stop_even_if_it_is_released_at_once(topic: Desk) -> None:
    """A press and its release between two steps of the command thread were one withdrawn cause: nothing happened."""
    assert topic.hear(A, True)
    assert not topic.hear(A, False)


def test_publishers_are_counted_where_the_graph_calls_them_otherwise(topic: Desk) -> None:
    """rmw_cyclonedds gives a message another publisher id than the graph: each would seem to have gone."""
    topic.hear(A, False)
    topic.look(b"x")
    topic.wait(GRAPH_LAG_NS + 1)
    topic.look(b"x")
    assert topic.codes == set()
    topic.look()
    assert topic.codes == {"estop_silent"}


def test_a_publisher_that_the_graph_does_not_show_yet_has_not_gone(topic: Desk) -> None:
    topic.hear(A, False)
    topic.look()
    assert topic.codes == set()


def test_a_false_of_nobody_knows_whom_releases_nothing_while_there_are_two(topic: Desk) -> None:
    topic.look(A, B)
    topic.hear(ANONYMOUS, True)
    topic.hear(ANONYMOUS, False)
    assert topic.codes == {"estop"}
    topic.look(A)
    topic.hear(ANONYMOUS, False)
    assert topic.codes == set()


def test_a_source_that_was_gone_altogether_is_armed_anew(topic: Desk) -> None:
    topic.hear(A, False)
    topic.look(A)
    topic.look()
    assert topic.monitor.release() == ""
    topic.hear(B, False, live=False)
    assert topic.codes == {"estop_waiting"}


def test_the_state_of_a_source_names_age_and_publishers(button: Desk) -> None:
    (state,) = button.monitor.states()
    assert state.text == "never heard, required"
    button.hear(A, False)
    button.hear(B, True)
    button.wait(100 * NS_PER_MS)
    (state,) = button.monitor.states()
    assert (state.publishers, state.pressed, state.age_ns) == (2, True, 100 * NS_PER_MS)
    button.wait(BEAT_NS)
    (state,) = button.monitor.states()
    assert (state.publishers, state.absent) == (0, 2)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(("true", "false", "latched false", "go", "come", "wait", "clear")),
        st.sampled_from((A, B, C)),
    ),
    max_size=40,
)


@given(acts=ACTS, heartbeat=st.booleans())
def test_nothing_but_its_own_false_or_a_successor_lifts_a_true(
    acts: list[tuple[str, bytes]], heartbeat: bool
) -> None:
    """In any order of messages, losses and clears: an independent record of what each publisher said last."""
    desk = Desk(heartbeat_ns=BEAT_NS if heartbeat else 0, required=heartbeat)
    desk.start()
    there: set[bytes] = set()
    names = {A: A, B: B, C: C}
    holds: dict[bytes, bool] = {}
    lives = 0
    for act, who in acts:
        desk.wait(NS_PER_MS)
        name = names[who]
        if act == "come" and name not in there:
            # A publisher that comes back is another one to the middleware.
            lives += 1
            names[who] = name = who[:12] + lives.to_bytes(4, "big")
            there.add(name)
        elif act == "go":
            there.discard(name)
        elif act in ("true", "false", "latched false") and name in there:
            holds[name] = act == "true"
            desk.hear(name, act == "true", live=not act.startswith("latched"))
        elif act == "wait":
            desk.wait(BEAT_NS // 2)
        elif act == "clear":
            released = desk.monitor.release() == ""
            if any(holds.get(one) for one in there):
                assert not released, "cleared although a publisher that is there holds a true"
        desk.look(*there)
        if any(holds.get(one) for one in there):
            assert "estop" in desk.codes
        gone_with_true = sum(says for one, says in holds.items() if one not in there)
        if gone_with_true > sum(not says for says in holds.values()):
            # Each that says false took the place of one at most.
            assert desk.rung is Ladder.STOP
            assert desk.monitor.release() != ""


@given(
    orders=st.permutations([(A, True), (A, False), (B, True), (C, False), (C, False)]),
    copies=st.lists(st.integers(0, 4), max_size=6),
)
def test_copies_and_their_order_do_not_matter(orders: list[tuple[bytes, bool]], copies: list[int]) -> None:
    """Every reader may deliver every message; what counts is the newest of each publisher by its own number."""
    desk = Desk()
    desk.start()
    numbered = []
    for index, (who, says) in enumerate(orders):
        numbered.append((who, says, sum(other == who for other, _ in orders[: index + 1])))
    for who, says, number in [*numbered, *(numbered[i] for i in copies)]:
        desk.hear(who, says, sequence=number)
    last = {who: says for who, says, _ in numbered}
    assert ("estop" in desk.codes) == any(last.values())


def test_a_press_that_one_reader_has_lost_and_another_hears_after_the_release_still_stops(
    topic: Desk,
) -> None:
    """The best-effort reader lost the true and heard the false; the reliable one brought the true a moment later, which
    was put aside as old: the arm went on through a press of 1 ms."""
    topic.hear(A, False, sequence=1)
    assert not topic.hear(A, False, sequence=3)
    assert topic.hear(A, True, sequence=2)
    assert not topic.hear(A, False, sequence=3)
    assert topic.codes == set(), "it is released: what stays is the STOP that the press has latched"
    assert not topic.hear(A, True, sequence=2, live=False), "what was latched is not said anew"


def test_two_emergency_stops_of_one_name_are_named_with_what_to_change() -> None:
    """A source called estop, beside the topic of that name, ended the node with a traceback."""
    with pytest.raises(ConfigError, match=r"(?s)one name.*desk.*estop_sources"):
        EstopMonitor([SourceRule("desk"), SourceRule("desk", BEAT_NS)], clock=lambda: 0)
