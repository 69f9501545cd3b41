# SPDX-License-Identifier: Apache-2.0
"""MoveIt as a checker: asked for and silent means that the arm holds, never that it moves unchecked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wam.core.chunk import ActionChunk
from wam.core.errors import InputError
from wam.core.safety.collision import FakeChecker, FakeRemote
from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.ros.moveit.frames import (
    FREE,
    NO_ANSWER,
    REQUEST_BYTES,
    Reply,
    pack_reply,
    pack_request,
    request_shape,
    take_reply,
)
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.filters import build_chain

ROBOT = load_robot("piper")
HOME = np.array([joint.home for joint in ROBOT.joints])
ARM = np.array([0.0 if joint.name.endswith("gripper") else 1.0 for joint in ROBOT.joints])
TICK = 10_000_000
LIMITS = ROBOT.limits()


class World:
    """Two arms that are where they are sent, and a remote checker."""

    def __init__(self, remote: FakeRemote) -> None:
        self.now = 10**18
        self.wall = 0
        self.cycle = build_cycle(
            ROBOT,
            settings_for(ROBOT),
            build_chain(ROBOT, model=False),
            remote=remote,
            remote_budget_ns=80_000_000,
            wall=lambda: self.wall,
        )
        self.stream: list[np.ndarray] = []
        self.codes: list[str] = []
        self.measured = HOME
        self.sequence = 0

    def step(self, ticks: int, *, slope: float = 0.2) -> None:
        for k in range(ticks):
            self.now += TICK
            self.wall += TICK
            self.cycle.offer_state("left", stamp_ns=self.now, positions=self.measured[:7])
            self.cycle.offer_state("right", stamp_ns=self.now, positions=self.measured[7:])
            if k % 10 == 0:
                self.sequence += 1
                rows = self.measured + slope * 0.033 * np.arange(16)[:, None] * ARM
                chunk = ActionChunk(
                    stamp_ns=self.now - 10_000_000, generation=1, sequence=self.sequence, contract_hash="a",
                    context_version=1, context_age_ns=0, phase_offset_rows=0, row_period_ns=33_333_333,
                    joint_names=ROBOT.joint_names, rows=rows,
                )  # fmt: skip
                self.cycle.offer_chunk(chunk, arrival_ns=self.now)
            result = self.cycle.step(self.now)
            self.codes += [event.finding.code for event in result.events]
            assert result.position is not None
            self.stream.append(result.position)
            self.measured = result.position

    def check(self) -> None:
        rows = np.array(self.stream)
        for limit in (LIMITS.velocity, LIMITS.acceleration, LIMITS.jerk):
            rows = np.diff(rows, axis=0) / 0.01
            assert np.all(np.abs(rows) <= limit * (1 + 1e-6))


@pytest.mark.parametrize("polls", [0, 1, 5])
def test_a_motion_is_executed_once_the_remote_checker_has_found_it_free(polls: int) -> None:
    remote = FakeRemote(FakeChecker(), polls=polls)
    world = World(remote)
    world.step(100)
    assert world.cycle.ladder.rung is Ladder.NOMINAL
    assert world.stream[-1][0] > HOME[0] + 0.05
    assert remote.submitted >= 5
    world.check()


def test_a_remote_checker_that_does_not_answer_in_time_holds_the_arm_until_it_does() -> None:
    remote = FakeRemote(FakeChecker())
    world = World(remote)
    world.step(60)
    remote.polls = None
    world.step(150)
    assert world.cycle.ladder.rung is Ladder.HOLD
    assert "no_collision_answer" in world.codes
    assert world.cycle.standing
    remote.polls = 1
    world.step(40)
    assert world.cycle.ladder.rung is Ladder.NOMINAL
    world.check()


def test_a_remote_checker_that_has_gone_holds_the_arm() -> None:
    remote = FakeRemote(FakeChecker())
    world = World(remote)
    world.step(60)
    remote.gone = True
    world.step(120)
    assert world.cycle.ladder.rung is Ladder.HOLD
    assert world.cycle.ladder.code == "no_collision_answer"
    world.check()


def test_a_contact_found_by_the_remote_checker_stops_the_arm_short_of_it() -> None:
    remote = FakeRemote(FakeChecker(joint=0, limit=HOME[0] + 0.1))
    world = World(remote)
    world.step(300)
    assert world.cycle.ladder.rung is Ladder.STOP
    assert world.cycle.ladder.code == "collision"
    assert max(row[0] for row in world.stream) < HOME[0] + 0.1
    world.check()


def test_frames_survive_the_way_there_and_back() -> None:
    states = np.arange(12.0).reshape(3, 4)
    data = pack_request(7, states)
    assert request_shape(data[:REQUEST_BYTES]) == (7, 3, 4)
    np.testing.assert_array_equal(np.frombuffer(data[REQUEST_BYTES:]).reshape(3, 4), states)
    buffer = bytearray(pack_reply(Reply(7, 2, "link_a\ttable")) + pack_reply(Reply(8, FREE, "")))
    assert take_reply(buffer) == Reply(7, 2, "link_a\ttable")
    assert take_reply(buffer) == Reply(8, FREE, "")
    assert take_reply(buffer) is None


@given(st.binary(min_size=16, max_size=64))
def test_bytes_that_are_no_frame_are_refused_or_waited_for(data: bytes) -> None:
    buffer = bytearray(data)
    try:
        reply = take_reply(buffer)
    except InputError:
        return
    assert reply is None or reply.index >= NO_ANSWER


@pytest.mark.parametrize("header", [b"XXXX" + bytes(12), pack_request(1, np.zeros((1, 1)))[:8] + b"\xff" * 8])
def test_a_request_of_impossible_size_is_refused(header: bytes) -> None:
    with pytest.raises(InputError, match="malformed"):
        request_shape(header)
