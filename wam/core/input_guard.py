# SPDX-License-Identifier: Apache-2.0
"""The guard of one input: who may send, how much, how often, with which stamps; what is refused is counted.

    door    before a message is read: sender, size, rate, time in the queue
    stamp   once it is read: the stamp against the clock of this node
    share   once it is read: whether another publisher sends the same joints
    refuse  anything that reading or using it has found

A refusal ends nothing: the message is left out, and the input ages as if it had not arrived. The text of a refusal is
logged at most once per reason in `LOG_PERIOD_NS`.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from wam.core.clock import NS_PER_S
from wam.core.sole_sender import NameOf, SoleSender

LOG_PERIOD_NS = 5 * NS_PER_S
"""A reason of refusal is logged once in this time [ns]."""

MUTE_NS = NS_PER_S // 5
"""A sender of bytes that are no message is not read for this time [ns]: the middleware prints a line for each."""

MAX_KEPT = 1024
"""Publishers whose rate and whose muting are kept, the latest first: more than a middleware carries, and no memory."""

MAX_TEXT = 400
"""Characters of a refusal's text that are kept; a name within it may be as long as the message."""

MAX_AHEAD_NS = NS_PER_S // 10
"""Lead of a stamp over the clock that is allowed [ns]: skew of two synchronised machines."""


class InputReason(enum.Enum):
    """Why a message is refused; the value is the code of its event and its name in diagnostics."""

    SENDER = "foreign_sender"
    SIZE = "message_too_large"
    RATE = "message_rate"
    WAITED = "message_waited"
    AHEAD = "stamp_ahead"
    MALFORMED = "malformed"
    CONTRACT = "contract_mismatch"
    INTERNAL = "unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputContract:
    """What an input may be.

    Attributes:
        max_bytes: longest serialized message [bytes].
        max_rate: messages of one sender per second of the monotonic clock; 0: any number.
        burst: messages that may come at once.
        max_wait_ns: longest time between receipt and reading [ns]; 0: any time.
        max_ahead_ns: largest lead of the stamp over the clock [ns]; 0: stamps are not judged.
        sole: one publisher at a time, see `SoleSender`.
        parts: name in a message -> what it is the name of: then `sole` goes for each of these by itself, and several
            publishers may share a topic as long as none sends what another one does.
        node: full name of the node that is expected to publish, or "".
        strict: no other node is listened to.
        release_ns: silence after which another publisher may take over [ns].
        node_time: silence is counted by the node's clock, for simulated time in lock-step: there, a publisher that is
            slow in wall time is not silent.
    """

    max_bytes: int = 65_536
    max_rate: float = 2_000.0
    burst: int = 200
    max_wait_ns: int = 0
    max_ahead_ns: int = 0
    sole: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    strict: bool = False
    release_ns: int = NS_PER_S
    node_time: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a message arrived.

    Attributes:
        receive_ns: when, on the monotonic clock, or on the node's where the contract says so [ns].
        sender: gid of its publisher; empty where the middleware does not tell.
        waited_ns: time that it spent in the queue before it was read [ns].
    """

    receive_ns: int
    sender: bytes = b""
    waited_ns: int = 0


@dataclass(frozen=True, slots=True)
class RefusedInput:
    """A message that is left out.

    Attributes:
        reason: why.
        text: one sentence: what, value, allowed.
    """

    reason: InputReason
    text: str


@dataclass(slots=True)
class _Bucket:
    """What a sender may still send at once."""

    tokens: float
    at_ns: int


@dataclass(slots=True)
class _Said:
    """When a reason was logged last, and how many refusals were not."""

    at_ns: int
    unsaid: int = field(default=0)


class InputGuard:
    """Judges the messages of one subscription; one thread, `counts` from any.

    Args:
        topic: for texts.
        contract: what is accepted.
        name_of: finds the node of a publisher.
    """

    def __init__(self, topic: str, contract: InputContract, *, name_of: NameOf = lambda _: None) -> None:
        self.topic, self.contract = topic, contract

        def sole() -> SoleSender:
            return SoleSender(
                node=contract.node, strict=contract.strict, release_ns=contract.release_ns, name_of=name_of
            )

        self._sole = sole()
        self._parts = {part: sole() for part in contract.parts.values()}
        self._buckets: dict[bytes, _Bucket] = {}
        self._muted: dict[bytes, int] = {}
        self._said: dict[InputReason, _Said] = {}
        self._counts: Counter[InputReason] = Counter()
        self.accepted = 0

    @property
    def counts(self) -> Mapping[InputReason, int]:
        """Refused messages by reason."""
        return dict(self._counts)

    @property
    def refused(self) -> int:
        """Refused messages."""
        return sum(self.counts.values())

    def describe(self, sender: bytes) -> str:
        """Return a text that names a publisher, by its node and its participant."""
        return self._sole.describe(sender)

    def door(self, arrival: Arrival, size: int) -> RefusedInput | None:
        """Judge a message of `size` bytes before it is read."""
        contract, sender = self.contract, arrival.sender
        # Without a gid every message seems to come from one sender.
        if contract.sole and sender and not self._parts:
            why = self._sole.admit(sender, arrival.receive_ns)
            if why:
                return RefusedInput(InputReason.SENDER, why)
        if size > contract.max_bytes:
            text = f"{size} bytes; allowed: at most {contract.max_bytes}"
            return RefusedInput(InputReason.SIZE, text)
        if contract.max_rate and not self._has_token(sender, arrival.receive_ns):
            text = f"more than {contract.max_rate:g} messages a second of one publisher"
            return RefusedInput(InputReason.RATE, text)
        if contract.max_wait_ns and arrival.waited_ns > contract.max_wait_ns:
            waited, allowed = arrival.waited_ns * 1e-9, contract.max_wait_ns * 1e-9
            return RefusedInput(
                InputReason.WAITED, f"read {waited:.3f} s after its receipt; allowed: {allowed:.3f} s"
            )
        if arrival.receive_ns < self._muted.get(sender, arrival.receive_ns):
            return RefusedInput(InputReason.MALFORMED, "its publisher sent bytes that are no such message")
        return None

    def share(self, arrival: Arrival, names: Iterable[str]) -> RefusedInput | None:
        """Judge whether the sender of a message with these names may send them, once it is read."""
        if not self.contract.sole or not arrival.sender:
            return None
        parts = {part for name in names if (part := self.contract.parts.get(name)) is not None}
        senders = [(part, self._parts[part]) for part in sorted(parts)]
        for part, one in senders:
            why = one.hear(arrival.sender, arrival.receive_ns)
            if why:
                return RefusedInput(InputReason.SENDER, f"{part} is {why}")
        for _, one in senders:
            one.choose(arrival.sender, arrival.receive_ns)
        return None

    def stamp(self, stamp_ns: int, now_ns: int) -> RefusedInput | None:
        """Judge a stamp against the node's clock, both [ns]; a simulated clock that has not begun judges nothing."""
        allowed = self.contract.max_ahead_ns
        if not allowed or now_ns <= 0 or stamp_ns - now_ns <= allowed:
            return None
        ahead = (stamp_ns - now_ns) * 1e-9
        text = (
            f"stamped {ahead:.3f} s ahead of this clock; allowed: {allowed * 1e-9:.3f} s; "
            "synchronise the clocks of the two machines"
        )
        return RefusedInput(InputReason.AHEAD, text)

    def unreadable(self, arrival: Arrival, error: Exception) -> RefusedInput:
        """Return the refusal of bytes that are no message of the type; their sender is not read for a while."""
        if arrival.sender:
            self._muted.pop(arrival.sender, None)
            if len(self._muted) >= MAX_KEPT:
                self._muted.pop(next(iter(self._muted)))
            self._muted[arrival.sender] = arrival.receive_ns + MUTE_NS
        return RefusedInput(InputReason.MALFORMED, f"not a message of this type: {error}")

    def refuse(self, refused: RefusedInput, now_ns: int) -> str:
        """Count a refusal at `now_ns` [ns, monotonic] and return the line to log, "" where it was logged lately."""
        reason = refused.reason
        self._counts[reason] += 1
        said = self._said.get(reason)
        if said is not None and now_ns - said.at_ns < LOG_PERIOD_NS:
            said.unsaid += 1
            return ""
        self._said[reason] = _Said(now_ns)
        more = f" ({said.unsaid} more since the last line)" if said is not None and said.unsaid else ""
        return f"{self.topic}: message refused, {reason.value}: {refused.text[:MAX_TEXT]}{more}"

    def _has_token(self, sender: bytes, now_ns: int) -> bool:
        contract = self.contract
        bucket = self._buckets.get(sender)
        if bucket is None:
            if len(self._buckets) >= MAX_KEPT:
                self._buckets.pop(next(iter(self._buckets)))
            bucket = self._buckets[sender] = _Bucket(float(contract.burst), now_ns)
        earned = max(0, now_ns - bucket.at_ns) * 1e-9 * contract.max_rate
        bucket.tokens, bucket.at_ns = min(float(contract.burst), bucket.tokens + earned), now_ns
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True
