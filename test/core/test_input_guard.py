# SPDX-License-Identifier: Apache-2.0
"""The guard of an input: what it refuses, what it counts, what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.input_guard import (
    LOG_PERIOD_NS,
    MAX_KEPT,
    MUTE_NS,
    Arrival,
    InputContract,
    InputGuard,
    InputReason,
    RefusedInput,
)
from wam.core.sole_sender import MAX_SENDERS, SoleSender

DRIVER, ROGUE, RESTARTED = b"driver-part-0001", b"rogue-part--0001", b"driver-part2-002"
NODES = {DRIVER: "/driver", ROGUE: "/attacker", RESTARTED: "/driver"}
ONE = InputContract(sole=True, release_ns=NS_PER_S)


def reason(refused: RefusedInput | None) -> InputReason | None:
    return None if refused is None else refused.reason


def test_a_second_publisher_is_refused_and_both_are_named() -> None:
    """Joint states of another process under the driver's own name moved the arm: names were compared."""
    guard = InputGuard("states", ONE, name_of=lambda _: "/driver")
    assert guard.door(Arrival(0, DRIVER), 10) is None
    refused = guard.door(Arrival(NS_PER_MS, ROGUE), 10)
    assert reason(refused) is InputReason.SENDER
    assert refused is not None
    assert DRIVER[:12].hex() in refused.text
    assert ROGUE[:12].hex() in refused.text
    assert guard.door(Arrival(2 * NS_PER_MS, DRIVER), 10) is None


def test_a_restarted_publisher_is_followed_once_the_former_one_is_silent() -> None:
    sole = SoleSender(node="", strict=False, release_ns=NS_PER_S, name_of=NODES.get)
    assert not sole.admit(DRIVER, 0)
    assert sole.admit(RESTARTED, NS_PER_S)
    assert not sole.admit(RESTARTED, NS_PER_S + 1)
    assert sole.chosen == RESTARTED


def test_a_driver_that_was_restarted_with_its_clock_set_back_is_followed() -> None:
    """By simulated time the old one would not have been silent before the clock had come back to where it was."""
    sole = SoleSender(node="", strict=False, release_ns=NS_PER_S, name_of=NODES.get)
    assert not sole.admit(DRIVER, 100 * NS_PER_S)
    assert sole.admit(RESTARTED, 100 * NS_PER_S - 1), "receipts of two publishers are not in order"
    assert not sole.admit(RESTARTED, 2 * NS_PER_S)


def test_the_node_that_a_topic_is_named_after_takes_over_from_a_foreign_one_at_once() -> None:
    """One foreign chunk before the policy's first locked the contract, and every chunk of the policy was refused."""
    sole = SoleSender(node="/driver", strict=False, release_ns=NS_PER_S, name_of=NODES.get)
    assert not sole.admit(ROGUE, 0)
    assert not sole.admit(DRIVER, 1)
    assert sole.admit(ROGUE, 2)
    # A second process under the same name waits for its silence like any other.
    assert sole.admit(RESTARTED, 3)


def test_a_strict_input_hears_nobody_but_its_node_and_waits_until_the_graph_knows_it() -> None:
    nodes: dict[bytes, str] = {ROGUE: "/attacker"}
    sole = SoleSender(node="/driver", strict=True, release_ns=NS_PER_S, name_of=nodes.get)
    assert "allowed: /driver" in sole.admit(ROGUE, 0)
    assert sole.admit(DRIVER, 1)
    nodes[DRIVER] = "/driver"
    assert not sole.admit(DRIVER, 2)
    assert sole.admit(ROGUE, 100 * NS_PER_S)


def test_thousands_of_publishers_do_not_fill_the_memory() -> None:
    guard = InputGuard("chunk", ONE, name_of=lambda gid: gid.hex())
    for number in range(5_000):
        arrival = Arrival(number, number.to_bytes(16, "big"))
        guard.door(arrival, 10)
        guard.unreadable(arrival, ValueError("no message"))
    assert max(len(guard._buckets), len(guard._muted)) <= MAX_KEPT
    assert len(guard._sole._names) <= MAX_SENDERS


def test_size_is_judged_before_the_message_is_read() -> None:
    guard = InputGuard("chunk", InputContract(max_bytes=100))
    assert guard.door(Arrival(0), 100) is None
    assert reason(guard.door(Arrival(0), 101)) is InputReason.SIZE


def test_a_publisher_that_sends_too_often_spends_its_own_allowance_only() -> None:
    guard = InputGuard("chunk", InputContract(max_rate=10.0, burst=3))
    flood = [reason(guard.door(Arrival(0, ROGUE), 1)) for _ in range(5)]
    assert flood == [None, None, None, InputReason.RATE, InputReason.RATE]
    assert guard.door(Arrival(0, DRIVER), 1) is None
    assert guard.door(Arrival(NS_PER_S // 10, ROGUE), 1) is None
    assert reason(guard.door(Arrival(NS_PER_S // 10, ROGUE), 1)) is InputReason.RATE


def test_a_message_that_waited_in_the_queue_is_not_new() -> None:
    guard = InputGuard("states", InputContract(max_wait_ns=100))
    assert guard.door(Arrival(0, waited_ns=100), 1) is None
    assert reason(guard.door(Arrival(0, waited_ns=101), 1)) is InputReason.WAITED


def test_a_stamp_ahead_of_the_clock_is_refused_and_an_old_one_is_left_to_its_reader() -> None:
    """States stamped 5 s ahead were fresh for 5 s after their driver had gone."""
    guard = InputGuard("states", InputContract(max_ahead_ns=100))
    assert guard.stamp(1_100, 1_000) is None
    assert reason(guard.stamp(1_101, 1_000)) is InputReason.AHEAD
    assert guard.stamp(0, 10**18) is None
    assert guard.stamp(10**18, 0) is None  # a simulated clock that has not begun


def test_a_sender_of_bytes_that_are_no_message_is_not_read_for_a_while() -> None:
    """The middleware prints a line for each of them: half a megabyte of log a second."""
    guard = InputGuard("chunk", InputContract(max_rate=0.0))
    guard.unreadable(Arrival(0, ROGUE), ValueError("no message"))
    assert reason(guard.door(Arrival(MUTE_NS - 1, ROGUE), 1)) is InputReason.MALFORMED
    assert guard.door(Arrival(MUTE_NS - 1, DRIVER), 1) is None
    assert guard.door(Arrival(MUTE_NS, ROGUE), 1) is None


@pytest.mark.parametrize("senders", [33, 200])
def test_publishers_that_take_turns_have_no_more_than_one_each(senders: int) -> None:
    """More than 32 that took turns pushed one another out: each had its full allowance again with every message, and
    each message of bytes that are no message was read anew, which prints a line."""
    guard = InputGuard("t", InputContract(max_rate=100.0, burst=5))
    read = 0
    for number in range(20 * senders):
        at = Arrival(number * NS_PER_MS * 50 // (20 * senders), b"%d" % (number % senders))
        read += guard.door(at, 10) is None
    assert read == 9 * senders, "five at once, four in 50 ms"
    read = 0
    for number in range(10 * senders):
        at = Arrival(NS_PER_S + number * NS_PER_MS // senders, b"%d" % (number % senders))
        if guard.door(at, 10) is None:
            read += 1
            guard.unreadable(at, ValueError("no"))
    assert read == senders


def test_a_reason_is_logged_once_in_five_seconds_with_the_number_of_the_others() -> None:
    guard = InputGuard("chunk", InputContract())
    refused = RefusedInput(InputReason.MALFORMED, "x" * 10_000)
    lines = [guard.refuse(refused, at) for at in range(1_000)]
    assert len(lines[0]) < 600
    assert not any(lines[1:])
    assert guard.refuse(replace(refused, reason=InputReason.SIZE), 1_000)
    assert "(999 more since the last line)" in guard.refuse(refused, LOG_PERIOD_NS)
    assert guard.counts == {InputReason.MALFORMED: 1_001, InputReason.SIZE: 1}
    assert guard.refused == 1_002


SHARED = replace(ONE, parts={"arm": "arm", "arm_old": "arm", "gripper": "gripper"})


def test_two_nodes_may_share_a_topic_as_long_as_neither_sends_what_the_other_does() -> None:
    """Arm and gripper from two nodes: whoever came second was refused, and the state was never whole."""
    guard = InputGuard("states", SHARED, name_of=NODES.get)
    for i in range(3):
        for sender, names in ((DRIVER, ["arm", "wheel"]), (RESTARTED, ["gripper"])):
            arrival = Arrival(i * NS_PER_MS, sender)
            assert guard.door(arrival, 10) is None
            assert guard.share(arrival, names) is None
    refused = guard.share(Arrival(5 * NS_PER_MS, ROGUE), ["arm_old"])
    assert reason(refused) is InputReason.SENDER
    assert refused is not None
    assert refused.text.startswith("arm is sent by /attacker")
    assert "while /driver" in refused.text


def test_a_message_that_is_refused_for_one_joint_takes_over_none_of_the_others() -> None:
    guard = InputGuard("states", SHARED, name_of=NODES.get)
    assert guard.share(Arrival(0, DRIVER), ["arm"]) is None
    assert guard.share(Arrival(1, ROGUE), ["arm", "gripper"]) is not None
    assert guard.share(Arrival(2, RESTARTED), ["gripper"]) is None


def test_names_of_others_are_no_part_and_claim_nothing() -> None:
    guard = InputGuard("states", SHARED, name_of=NODES.get)
    assert guard.share(Arrival(0, ROGUE), ["wheel"]) is None
    assert guard.share(Arrival(1, DRIVER), ["arm", "gripper"]) is None
