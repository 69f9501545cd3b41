# SPDX-License-Identifier: Apache-2.0
"""Two publishers that say different things about one joint: the arm is held, and both are named with both values.

    agree        two values of a joint no further apart than the tolerance, plus the way that the joint may go between
                 their stamps at its limit of speed
    disagree     further apart, of two publishers, with stamps no further apart than a joint state may be old

Publishers of different joints, of joints that are not the group's, and of states of long ago are not compared. A
disagreement lasts until `LASTS_NS` after the last message that showed it, and ends by itself. No rclpy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.errors import JointError
from wam.core.sole_sender import MAX_SENDERS
from wam.core.verdict import Finding, Verdict
from wam.robots.description import JointGroup
from wam.robots.joint_reader import MAX_LAYOUTS, JointReader
from wam.runtime.safety.mailbox import Mailbox

CODE = "drivers_disagree"

AGREE_SHARE = 0.01
"""Share of a joint's range by which two values may differ..."""

AGREE_MOST = 0.02
"""... and never more than this [rad or m]: noise of two sensors of one joint is far below."""

LASTS_NS = 2 * NS_PER_S
"""A disagreement is taken to last so long after it was seen [ns]; a forgotten publisher may send once a second."""

TELL_NS = NS_PER_S
"""What is said of a disagreement that lasts is renewed this often [ns]: names become known, values change."""

Vector = npt.NDArray[np.float64]
Stamps = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Publisher:
    """What one publisher has said of each joint last.

    `unread` holds the newest message of each of its layouts, oldest first; they are sorted in once somebody else speaks
    of the same joints.
    """

    receive_ns: int
    joints: set[str]
    unread: dict[tuple[str, ...], tuple[Any, int]]
    positions: Vector
    stamps: Stamps


@dataclass(frozen=True, slots=True)
class _Disagreement:
    """Two values of one joint [rad or m]."""

    receive_ns: int
    joint: int
    senders: tuple[bytes, bytes]
    values: tuple[float, float]
    allowed: float


class DriverDisagreement:
    """Compares the publishers of one joint group, and holds the arm while two of them disagree.

    `take` is called by one thread at a time, `settle` by any.

    Args:
        group: whose joint states.
        topic: full name of their topic, for texts.
        mailbox: gets the cause of HOLD.
        describe: names a publisher by its gid.
    """

    def __init__(
        self, group: JointGroup, *, topic: str, mailbox: Mailbox, describe: Callable[[bytes], str]
    ) -> None:
        self._group, self._topic, self._mailbox, self._describe = group, topic, mailbox, describe
        self._reader = JointReader(group)
        self._parts = group.parts
        self._tolerance = np.array(
            [min(AGREE_MOST, AGREE_SHARE * (joint.upper - joint.lower)) for joint in group.joints]
        )
        self._velocity = np.array([joint.velocity for joint in group.joints])
        self._publishers: dict[bytes, _Publisher] = {}
        self._lock = threading.Lock()
        self._found: _Disagreement | None = None
        self._told_ns: int | None = None

    def take(self, message: Any, *, sender: bytes, stamp_ns: int, receive_ns: int) -> None:
        """Take a message, whether or not it is listened to.

        Args:
            message: sensor_msgs/JointState.
            sender: gid of its publisher; empty where the middleware does not tell: then nothing can be compared.
            stamp_ns: its stamp [ns].
            receive_ns: when it was received [ns].
        """
        if not sender:
            return
        one = self._publishers.get(sender) or self._add(sender)
        one.receive_ns = receive_ns
        names = tuple(message.name)
        one.joints.update(part for name in names if (part := self._parts.get(name)) is not None)
        one.unread.pop(names, None)
        one.unread[names] = message, stamp_ns
        if len(one.unread) > MAX_LAYOUTS:
            one.unread.pop(next(iter(one.unread)))
        if len(self._publishers) == 1:
            return
        self._publishers = {
            gid: other
            for gid, other in self._publishers.items()
            if abs(receive_ns - other.receive_ns) <= LASTS_NS
        }
        for gid, other in self._publishers.items():
            if gid != sender and not one.joints.isdisjoint(other.joints):
                self._read(one)
                self._read(other)
                self._compare(gid, other, sender, one)

    def settle(self, now_ns: int) -> None:
        """Raise or withdraw the cause, at a time on the clock of the receipts [ns]."""
        with self._lock:
            found = self._found
            if found is not None and abs(now_ns - found.receive_ns) <= LASTS_NS:
                if self._told_ns is None or abs(now_ns - self._told_ns) > TELL_NS:
                    self._told_ns = now_ns
                    self._mailbox.raise_cause(self._finding(found), of=self._group.name)
            elif self._told_ns is not None:
                self._found = self._told_ns = None
                self._mailbox.withdraw_cause(CODE, of=self._group.name)

    def _add(self, sender: bytes) -> _Publisher:
        n = len(self._group.joints)
        one = _Publisher(0, set(), {}, np.full(n, np.nan), np.zeros(n, dtype=np.int64))
        if len(self._publishers) >= MAX_SENDERS:
            self._publishers.pop(next(iter(self._publishers)))
        self._publishers[sender] = one
        return one

    def _read(self, one: _Publisher) -> None:
        for message, stamp_ns in one.unread.values():
            try:
                index, positions = self._reader.read_claim(message)
            except JointError:
                continue  # refused as malformed where it is listened to
            one.positions[index], one.stamps[index] = positions, stamp_ns
        one.unread.clear()

    def _compare(self, gid: bytes, other: _Publisher, sender: bytes, one: _Publisher) -> None:
        apart_ns = np.abs(one.stamps - other.stamps)
        allowed = self._tolerance + self._velocity * apart_ns * 1e-9
        # Comparisons with NaN, of joints that one of them has not reported, are false.
        beyond = np.abs(one.positions - other.positions) > allowed
        beyond &= apart_ns <= self._group.state_max_age_ns
        if not beyond.any():
            return
        worst = int(np.argmax(np.where(beyond, np.abs(one.positions - other.positions) / allowed, 0.0)))
        values = float(other.positions[worst]), float(one.positions[worst])
        found = _Disagreement(one.receive_ns, worst, (gid, sender), values, float(allowed[worst]))
        with self._lock:
            self._found = found

    def _finding(self, found: _Disagreement) -> Finding:
        joint = self._group.joints[found.joint]
        unit, apart = joint.kind.unit, abs(found.values[0] - found.values[1])
        said = " and ".join(
            f"{value:.4g} {unit} by {self._describe(sender)}"
            for sender, value in sorted(zip(found.senders, found.values, strict=True))
        )
        text = (
            f"{joint.name} is reported at {said}, both on {self._topic}: {apart:.3g} {unit} apart, allowed "
            f"{found.allowed:.3g}; it is unknown which one reports the arm: stop or remap one of them"
        )
        return Finding(Verdict.HOLD, CODE, text, joint.name, apart, found.allowed)
