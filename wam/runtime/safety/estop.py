# SPDX-License-Identifier: Apache-2.0
"""Emergency stop as monitored state: named sources, a vote per publisher, and absence counts as pressed. No rclpy.

    vote of a publisher      the source
    true                     pressed: STOP, whatever other publishers say
    false                    released; only a live one (no latched sample) after the activation arms the source
    silent, or gone          absent: STOP, until it speaks again, another takes its place, or a person clears it

A vote is held by the publisher's id, so one button cannot release another. The true of a publisher that has gone
stays until a publisher that came after it says false. Times are those of the injected monotonic clock, never stamps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from wam.core.clock import NS_PER_S
from wam.core.errors import ConfigError
from wam.core.ladder import NOT_ARMED
from wam.core.verdict import Finding, Verdict

ANONYMOUS = b""
"""Publisher of a message whose middleware or client library does not tell one."""

START_NS = 5 * NS_PER_S
"""After activation a required source may be missing for this long with HOLD; from then on it is a STOP [ns]."""

GRAPH_LAG_NS = NS_PER_S
"""A publisher may be heard for this long before the graph shows it, and the other way round [ns]."""


@dataclass(frozen=True, slots=True)
class SourceRule:
    """What is expected of a source.

    Attributes:
        name: for people.
        heartbeat_ns: a publisher that is silent for longer is absent [ns]; 0: only one that has left the graph is.
        required: the source must be there; otherwise it exists from its first message on.
        stateful: its latched sample is its present state, as a driver's mode that is published on change.
    """

    name: str
    heartbeat_ns: int = 0
    required: bool = False
    stateful: bool = False


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source at one moment.

    Attributes:
        name: its name.
        required: whether it must be there.
        armed: a live false has come since the activation.
        pressed: some publisher holds true.
        publishers: publishers that are heard.
        absent: publishers that were heard and are silent or gone.
        age_ns: time since the newest live message [ns], None before the first.
    """

    name: str
    required: bool
    armed: bool
    pressed: bool
    publishers: int
    absent: int
    age_ns: int | None

    @property
    def text(self) -> str:
        """One line for people."""
        if self.age_ns is None:
            return "never heard" + (", required" if self.required else "")
        said = "pressed" if self.pressed else "released" if self.armed else "not armed"
        gone = f", {self.absent} absent" if self.absent else ""
        return f"{said} {self.age_ns * 1e-9:.2f} s ago, publishers: {self.publishers}{gone}"


@dataclass(slots=True)
class _Vote:
    pressed: bool
    born_ns: int
    heard_ns: int
    alive_ns: int
    sequence: int
    in_graph: bool = False
    gone: bool = False
    replaces: bool = True


@dataclass(slots=True)
class _Source:
    rule: SourceRule
    armed: bool = False
    listening: bool = False
    newest_ns: int | None = None
    in_graph: int = 0
    votes: dict[bytes, _Vote] = field(default_factory=dict)

    def absent(self, vote: _Vote, now_ns: int) -> bool:
        """Return whether a publisher is silent or gone."""
        limit = self.rule.heartbeat_ns
        return vote.gone or (limit > 0 and now_ns - vote.heard_ns > limit)

    def present(self, now_ns: int) -> list[_Vote]:
        """Return the votes of the publishers that are heard."""
        return [one for one in self.votes.values() if not self.absent(one, now_ns)]

    def pressed(self) -> bool:
        """Return whether some publisher holds true, whether or not it is still there."""
        return any(one.pressed for one in self.votes.values())


class EstopMonitor:
    """Votes of all sources; every method may be called from any thread.

    Args:
        rules: one per source; names are unique.
        clock: monotonic time [ns].

    Raises:
        ConfigError: two sources have one name.
    """

    def __init__(self, rules: Sequence[SourceRule], *, clock: Callable[[], int]) -> None:
        self._sources = {rule.name: _Source(rule) for rule in rules}
        names = [rule.name for rule in rules]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(
                "two emergency stops have one name",
                value=twice,
                allowed="a name of its own for each; `estop` is that of the parameter estop_topic, unless it is empty",
                where="safety.estop_sources of the robot file, or the parameter estop_sources",
            )
        self._clock = clock
        self._lock = threading.Lock()
        self._active_ns: int | None = None

    def activate(self) -> None:
        """Begin anew: no source is armed, and what has gone while nothing moved counts only where it said true."""
        with self._lock:
            self._active_ns = now_ns = self._clock()
            for source in self._sources.values():
                source.armed, source.listening = False, True
                source.votes = {
                    key: vote
                    for key, vote in source.votes.items()
                    if vote.pressed or not source.absent(vote, now_ns)
                }
                # The state of a driver that was latched before the activation is still its state.
                source.armed = source.rule.stateful and bool(source.votes) and not source.pressed()

    def hear(self, name: str, publisher: bytes, pressed: bool, *, live: bool, sequence: int = 0) -> bool:
        """Take a message.

        Args:
            name: the source.
            publisher: id of its publisher; `ANONYMOUS` where none is known.
            pressed: what it says.
            live: it was sent after this node had subscribed; False for one that may be latched.
            sequence: publisher's number of the message, which may come more than once; 0 where none is known.

        Returns:
            Whether it is a request to stop.
        """
        with self._lock:
            source, now_ns = self._sources[name], self._clock()
            vote = source.votes.get(publisher)
            if publisher == ANONYMOUS:
                sequence = 0
                if vote is not None and vote.pressed and not pressed and source.in_graph > 1:
                    return False  # whose false it is cannot be told: the true may be another publisher's
            if vote is None:
                if not source.present(now_ns):
                    source.armed = False
                vote = source.votes[publisher] = _Vote(pressed, now_ns, now_ns, now_ns, sequence)
            elif sequence and sequence < vote.sequence:
                # Another reader has heard what came after it; a press in between is a press all the same.
                return pressed and live
            elif not sequence or sequence > vote.sequence:
                vote.pressed, vote.sequence = pressed, sequence
                vote.gone = False
            if live:
                vote.heard_ns = vote.alive_ns = now_ns
            if live or source.newest_ns is None:
                source.newest_ns = now_ns
            if pressed:
                return True
            if self._active_ns is not None and (live or source.rule.stateful):
                source.armed = True
                _replace(source, vote, now_ns)
            return False

    def look(self, name: str, publishers: Collection[bytes], latching: Collection[bytes] = ()) -> None:
        """Take the ids of the publishers that the graph shows now.

        Ids of messages and of the graph do not agree with every middleware; publishers are then only counted.

        Args:
            name: the source.
            publishers: all of them.
            latching: those that may have latched something, which is waited for after an activation.
        """
        with self._lock:
            source, now_ns = self._sources[name], self._clock()
            source.in_graph = len(publishers)
            if self._active_ns is not None and (
                now_ns - self._active_ns > GRAPH_LAG_NS or all(key in source.votes for key in latching)
            ):
                source.listening = False
            unknown = []
            for key, vote in source.votes.items():
                if key in publishers:
                    vote.in_graph = True
                    vote.alive_ns = vote.heard_ns if source.rule.heartbeat_ns else now_ns
                elif vote.in_graph:
                    vote.gone, vote.in_graph = True, False
                elif not vote.gone:
                    unknown.append(vote)
            known = sum(key in publishers for key in source.votes)
            fewer = len(unknown) - (len(publishers) - known)
            lagging = any(now_ns - vote.born_ns <= GRAPH_LAG_NS for vote in unknown)
            if fewer > 0 and not lagging:
                # Which one has gone is unknown. A true stays a true either way.
                for vote in sorted(unknown, key=lambda one: one.heard_ns)[:fewer]:
                    vote.gone = True

    def findings(self) -> tuple[Finding, ...]:
        """Return the causes that are present; the name of the source is their `joint`."""
        with self._lock:
            now_ns = self._clock()
            found = (self._judge(source, now_ns) for source in self._sources.values())
            return tuple(one for several in found for one in several)

    def release(self) -> str:
        """Accept a person's request to clear: absent publishers that did not say true are forgotten.

        Returns:
            "" or, where it cannot be cleared, why; then nothing is forgotten.
        """
        with self._lock:
            now_ns = self._clock()
            for source in self._sources.values():
                why = self._refusal(source, now_ns)
                if why:
                    return why
            for source in self._sources.values():
                source.votes = {
                    key: vote for key, vote in source.votes.items() if not source.absent(vote, now_ns)
                }
                source.armed = source.armed and bool(source.votes)
            return ""

    def states(self) -> tuple[SourceState, ...]:
        """Return all sources as they are now."""
        with self._lock:
            now_ns = self._clock()
            return tuple(
                SourceState(
                    name=source.rule.name,
                    required=source.rule.required,
                    armed=source.armed,
                    pressed=source.pressed(),
                    publishers=len(source.present(now_ns)),
                    absent=len(source.votes) - len(source.present(now_ns)),
                    age_ns=None if source.newest_ns is None else now_ns - source.newest_ns,
                )
                for source in self._sources.values()
            )

    def _judge(self, source: _Source, now_ns: int) -> list[Finding]:
        rule, name = source.rule, source.rule.name
        found = []
        if source.pressed():
            holding = sum(one.pressed for one in source.votes.values())
            text = f"emergency stop {name} is pressed ({holding} of {len(source.votes)} publishers say so)"
            found.append(Finding(Verdict.STOP, "estop", text, name))
        absent = [one for one in source.votes.values() if source.absent(one, now_ns)]
        if absent:
            age = (now_ns - min(one.heard_ns for one in absent)) * 1e-9
            limit = rule.heartbeat_ns * 1e-9
            why = "has gone" if any(one.gone for one in absent) else f"allowed {limit:.2f} s (heartbeat)"
            text = f"a publisher of emergency stop {name} is silent for {age:.2f} s: {why}"
            found.append(Finding(Verdict.STOP, "estop_silent", text, name, age, limit))
        if self._active_ns is None or found or (source.armed and not source.listening):
            return found
        if source.listening:
            text = f"what a publisher of emergency stop {name} has latched has not come yet"
            found.append(Finding(Verdict.HOLD, NOT_ARMED, text, name))
        elif source.votes:
            text = f"emergency stop {name} has not said false since the activation: press and release it"
            found.append(Finding(Verdict.HOLD, NOT_ARMED, text, name))
        elif rule.required:
            waited_ns = now_ns - self._active_ns
            late = waited_ns > max(START_NS, rule.heartbeat_ns)
            text = f"required emergency stop {name} has not been heard for {waited_ns * 1e-9:.1f} s"
            verdict = Verdict.STOP if late else Verdict.HOLD
            found.append(
                Finding(
                    verdict,
                    "estop_silent" if late else NOT_ARMED,
                    text,
                    name,
                    waited_ns * 1e-9,
                    START_NS * 1e-9,
                )
            )
        return found

    def _refusal(self, source: _Source, now_ns: int) -> str:
        name, present = source.rule.name, source.present(now_ns)
        if any(one.pressed and source.absent(one, now_ns) for one in source.votes.values()):
            return f"emergency stop {name} was pressed when it went silent: start it again, released"
        if source.pressed():
            return f"emergency stop {name} is pressed"
        if source.rule.required and not present:
            return f"required emergency stop {name} is absent"
        if present and self._active_ns is not None and not source.armed:
            return f"emergency stop {name} has not said false since the activation: press and release it"
        return ""


def _replace(source: _Source, new: _Vote, now_ns: int) -> None:
    """Let a released publisher take the place of one absent publisher that it came after, once."""
    if not new.replaces:
        return
    before = [
        (one.pressed, one.heard_ns, key)
        for key, one in source.votes.items()
        if one is not new and source.absent(one, now_ns) and one.alive_ns < new.born_ns
    ]
    if before:
        new.replaces = False
        del source.votes[min(before)[2]]
