# SPDX-License-Identifier: Apache-2.0
"""The degrade ladder (design.md section 5): one state machine, one table, one text per cause.

    rung      entered when                                        left when
    NOMINAL   no cause below holds
    LATE      a chunk or its context is older than its budget     the next fresh chunk
    SLOW      rows are about to run out: time is scaled down      the next chunk brings rows
    HOLD      no valid chunk in time, state lost, chunk refused   the cause is gone and a valid chunk has come
    STOP      limit, collision, non-finite, e-stop, ...           only `clear`, once the cause is gone

The rung is the highest one required by any present cause. STOP is latched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from wam.core.verdict import Event, Finding, Ladder, Verdict


@dataclass(frozen=True, slots=True)
class Cause:
    """A line of the table.

    Attributes:
        rung: the rung that the cause requires.
        verdict: verdict of the event that reports it.
        text: sentence with `{value}` and `{limit}`; findings of filters bring their own.
        retreat: the arm may go back along its last commands while the cause is present, or has latched a STOP.
    """

    rung: Ladder
    verdict: Verdict
    text: str = ""
    retreat: bool = False


NOT_ARMED = "estop_waiting"
"""Cause of an emergency stop that has not said false since the activation; a go before that counts for nothing."""

CAUSES: dict[str, Cause] = {
    # LATE: rows remain, the head of every chunk is skipped by its measured delay.
    "chunk_late": Cause(
        Ladder.LATE, Verdict.OK, "no chunk for {value:.3f} s, usual {limit:.3f} s; rows remain"
    ),
    "context_late": Cause(
        Ladder.LATE,
        Verdict.OK,
        "the planner context of the newest chunk is {value:.3f} s old, budget {limit:.3f} s (max_context_age)",
    ),
    # SLOW: time is scaled, jerk-limited.
    "horizon_short": Cause(
        Ladder.SLOW,
        Verdict.SCALED,
        "rows for {value:.3f} s are left; the arm is slowed to their end",
    ),
    "robot_slowed": Cause(
        Ladder.SLOW,
        Verdict.SCALED,
        "the robot runs at {value:.2f} of its speed (speed scaling); the rows are played at that rate",
    ),
    # HOLD: a stop on the plan, then the last command; left by itself when the cause has gone.
    "no_chunk_yet": Cause(
        Ladder.HOLD, Verdict.HOLD, "no chunk received yet; the arm is held where it is", retreat=True
    ),
    "retreating": Cause(
        Ladder.HOLD,
        Verdict.HOLD,
        "the arm goes slowly back along its last commands (~/retreat)",
        retreat=True,
    ),
    "aligning": Cause(
        Ladder.HOLD, Verdict.HOLD, "the command is brought slowly to where the arm is measured"
    ),
    "awaiting_resume": Cause(
        Ladder.HOLD, Verdict.HOLD, "the arm is held; ~/resume lets it move once chunks come", retreat=True
    ),
    "no_joint_state_yet": Cause(
        Ladder.HOLD,
        Verdict.HOLD,
        "no joint state received yet; nothing is commanded before the first one",
    ),
    "chunk_timeout": Cause(
        Ladder.HOLD,
        Verdict.HOLD,
        "no valid chunk for {value:.3f} s, allowed {limit:.3f} s (safety.chunk_timeout of the robot file)",
        retreat=True,
    ),
    "rows_exhausted": Cause(
        Ladder.HOLD,
        Verdict.HOLD,
        "the last row was due {value:.3f} s ago; chunks arrive too rarely",
        retreat=True,
    ),
    "joint_state_timeout": Cause(
        Ladder.HOLD,
        Verdict.HOLD,
        "joint state is {value:.3f} s old, allowed {limit:.3f} s (state_max_age of the robot file)",
    ),
    "clock_jump": Cause(
        Ladder.HOLD, Verdict.HOLD, "the clock jumped by {value:.3f} s, allowed {limit:.3f} s"
    ),
    "clock_paused": Cause(Ladder.HOLD, Verdict.HOLD, "the clock has stood still for {value:.3f} s"),
    "command_gap": Cause(
        Ladder.HOLD,
        Verdict.HOLD,
        "the command stream was silent for {value:.3f} s, allowed {limit:.3f} s; it restarts",
    ),
    "generation_reset": Cause(
        Ladder.HOLD, Verdict.HOLD, "the policy was reset; rows of the old task are dropped", retreat=True
    ),
    "no_listener": Cause(
        Ladder.HOLD, Verdict.HOLD, "nothing subscribes to this command topic; the arm would not move"
    ),
    "device_not_ready": Cause(Ladder.HOLD, Verdict.HOLD),
    "driver_unconfirmed": Cause(
        Ladder.HOLD,
        Verdict.HOLD,
        "the driver has not confirmed a command yet; the arm is held where it stands",
    ),
    "executor_lost": Cause(
        Ladder.HOLD, Verdict.HOLD, "executor lost: action chunks have no publisher any more", retreat=True
    ),
    "driver_lost": Cause(Ladder.HOLD, Verdict.HOLD, "driver lost: joint states have no publisher"),
    "drivers_disagree": Cause(Ladder.HOLD, Verdict.HOLD),
    "other_namespace": Cause(Ladder.HOLD, Verdict.HOLD),
    NOT_ARMED: Cause(
        Ladder.HOLD, Verdict.HOLD, "an emergency stop source has not said false since the activation"
    ),
    "not_enabled": Cause(
        Ladder.HOLD,
        Verdict.HOLD,
        "the enabling device has not been held for {value:.2f} s; its true is good for {limit:.2f} s (enable_topic)",
    ),
    "effort_high": Cause(Ladder.HOLD, Verdict.HOLD, retreat=True),
    "effort_unknown": Cause(Ladder.HOLD, Verdict.HOLD),
    "external_torque_high": Cause(Ladder.HOLD, Verdict.HOLD, retreat=True),
    "external_torque_unknown": Cause(Ladder.HOLD, Verdict.HOLD),
    "deactivated": Cause(Ladder.HOLD, Verdict.HOLD, "the node was deactivated; the arm is brought to rest"),
    # STOP: latched until `clear`.
    "estop": Cause(Ladder.STOP, Verdict.STOP, "emergency stop was requested"),
    "estop_silent": Cause(
        Ladder.STOP,
        Verdict.STOP,
        "an emergency stop source is silent for {value:.2f} s, allowed {limit:.2f} s (its heartbeat)",
    ),
    "outside_limits": Cause(Ladder.STOP, Verdict.STOP),
    "tracking_error": Cause(Ladder.STOP, Verdict.STOP, retreat=True),
    "measured_contact": Cause(Ladder.STOP, Verdict.STOP, retreat=True),
    "measured_workspace": Cause(Ladder.STOP, Verdict.STOP, retreat=True),
    "measured_zone": Cause(Ladder.STOP, Verdict.STOP, retreat=True),
    "not_aligned": Cause(
        Ladder.STOP,
        Verdict.STOP,
        "the arm is measured {value:.3f} rad from its command, more than {limit:.3f} rad or with something in between: "
        "check the sensor, then deactivate and activate the node, which starts where the arm is",
    ),
    "effort_limit": Cause(Ladder.STOP, Verdict.STOP, retreat=True),
    "external_torque_limit": Cause(Ladder.STOP, Verdict.STOP, retreat=True),
    "command_limit": Cause(Ladder.STOP, Verdict.STOP),
    "second_publisher": Cause(Ladder.STOP, Verdict.STOP),
    "liveliness_lost": Cause(Ladder.STOP, Verdict.STOP),
    "internal_error": Cause(Ladder.STOP, Verdict.STOP),
}


def finding(code: str, *, value: float = math.nan, limit: float = math.nan, joint: str = "") -> Finding:
    """Return the finding of a cause that has its own text.

    Args:
        code: a key of `CAUSES`.
        value: measured value, in the unit of the text.
        limit: limit it crossed.
        joint: joint or group concerned, put in front of the text.
    """
    cause = CAUSES[code]
    text = cause.text.format(value=value, limit=limit)
    return Finding(cause.verdict, code, f"{joint}: {text}" if joint else text, joint, value, limit)


LEFT_BEHIND = ("collision", "workspace", "stop_zone")
"""Findings of filters with verdict STOP that an arm leaves behind as it goes back along its last commands."""


def may_retreat(one: Finding) -> bool:
    """Return whether the arm may go back along its last commands while this finding is present, or latched."""
    cause = CAUSES.get(one.code)
    if cause is not None:
        return cause.retreat or cause.rung < Ladder.HOLD
    return one.verdict < Verdict.STOP or one.code in LEFT_BEHIND


CALM_UPDATES = 20
"""Updates without their causes after which LATE and SLOW are left: chunks that are late now and then would otherwise
make two events each."""

REPEAT_UPDATES = 500
"""Updates after which a cause that comes back on the rung in force makes an event again: two that alternate would
otherwise make several a second."""


class DegradeLadder:
    """The rung in force and the moves between rungs; one thread.

    Args:
        calm: updates after which LATE and SLOW are left.
        repeat: updates after which a cause that comes back on the same rung makes an event again.
    """

    def __init__(self, *, calm: int = CALM_UPDATES, repeat: int = REPEAT_UPDATES) -> None:
        self._calm = calm
        self._repeat = repeat
        self._quiet = 0
        self._updates = 0
        self._last: dict[str, int] = {}
        self.rung = Ladder.HOLD
        self.cause: Finding | None = finding("no_chunk_yet")
        self._latched: Finding | None = None

    @property
    def stopped(self) -> bool:
        """Whether STOP is latched."""
        return self._latched is not None

    @property
    def code(self) -> str:
        """Code of the cause in force; "" while NOMINAL."""
        return self.cause.code if self.cause is not None else ""

    def update(self, findings: Iterable[Finding], *, chunk_sequence: int = 0) -> Event | None:
        """Take the causes that hold now and return the move they make, or None.

        `cause` is the one in force also where its return makes no event.

        Args:
            findings: present causes. One whose code is not in `CAUSES` comes from a filter: its verdict decides.
            chunk_sequence: chunk concerned, for the event.
        """
        present = [one for one in findings if _rung(one) > Ladder.NOMINAL]
        worst = max(present, key=_rung, default=None)
        if worst is not None and _rung(worst) is Ladder.STOP and self._latched is None:
            self._latched = worst
        if self._latched is not None:
            worst = self._latched
        rung = Ladder.NOMINAL if worst is None else _rung(worst)
        code = "" if worst is None else worst.code
        before, before_code = self.rung, self.code
        if before in (Ladder.LATE, Ladder.SLOW) and rung < before:
            self._quiet += 1
            if self._quiet < self._calm:
                return None
        self._quiet = 0
        self._updates += 1
        if rung is not before:
            self._last.clear()
        last = self._last.get(code)
        self._last[code] = self._updates
        # The numbers of a cause change all the time; an event is a change of rung or of cause.
        if rung is before and code == before_code:
            return None
        self.rung, self.cause = rung, worst
        if rung is before and last is not None and self._updates - last <= self._repeat:
            return None
        report = worst or Finding(
            Verdict.OK, "recovered", f"nominal again after {before_code or before.name}"
        )
        return Event(report, before, rung, chunk_sequence)

    def clear(self, findings: Iterable[Finding] = ()) -> Event | None:
        """Release a latched STOP unless a cause of STOP still holds; the arm holds until the next valid chunk.

        Args:
            findings: causes that hold now.

        Returns:
            The move, or None when nothing was latched or a cause of STOP still holds.
        """
        if self._latched is None or any(_rung(one) is Ladder.STOP for one in findings):
            return None
        was, self._latched = self._latched, None
        before, self.rung = self.rung, Ladder.HOLD
        self.cause = finding("no_chunk_yet")
        return Event(
            Finding(Verdict.HOLD, "fault_cleared", f"{was.code} was cleared by the operator"),
            before,
            self.rung,
        )


def _rung(one: Finding) -> Ladder:
    """Return the rung for a finding: the table's; for one that the table has no text for, that of its verdict."""
    cause = CAUSES.get(one.code)
    if cause is not None and cause.text:
        return cause.rung
    if one.verdict >= Verdict.HOLD:
        return Ladder.STOP if one.verdict is Verdict.STOP else Ladder.HOLD
    return Ladder.NOMINAL
