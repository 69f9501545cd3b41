# SPDX-License-Identifier: Apache-2.0
"""A device behind the suite's own driver node, which tells its state in `/diagnostics`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from wam.devices.state import DriverState, Readiness, StepKind, person
from wam.devices.watch import Seen, StatusFeed, Watch

DIAGNOSTICS_TOPIC = "/diagnostics"
DRIVER_NODE = "wam_driver"
STATUS_TASK = "driving"
DRIVER_STATUS = f"{DRIVER_NODE}: {STATUS_TASK}"
"""Name of the status of the driver node."""
STATE, READINESS, TEXT, REMEDY = "state", "readiness", "text", "remedy"
"""Keys of a device in that status, behind "GROUP/"."""


def report(state: DriverState) -> Mapping[str, str]:
    """Return a state as values of a diagnostics status, in words for people and for `ReportedWatch`."""
    told = {STATE: state.code, READINESS: state.readiness.name.lower(), TEXT: state.text}
    if state.steps:
        told[REMEDY] = "; then ".join(
            step.text
            if step.kind is StepKind.PERSON
            else f"{step.text} ({step.kind.value} {step.name.replace('~', DRIVER_NODE)})"
            for step in state.steps
        )
    return told


class ReportedWatch(Watch):
    """One device that the driver node reaches itself: a hand, or a gripper behind an action."""

    @property
    def feeds(self) -> tuple[StatusFeed, ...]:
        """The status of the driver node."""
        return (StatusFeed("diagnostics", DIAGNOSTICS_TOPIC, partial(_read, self.group.name)),)

    @property
    def deaf_feeds(self) -> tuple[StatusFeed, ...]:
        """None: the driver node drops commands that its device cannot follow."""
        return ()

    def state(self, seen: Seen) -> DriverState:
        """Return what the driver node says of the device; nothing is known of one of which it says nothing."""
        values = seen.values
        if STATE not in values:
            text = f"{DRIVER_NODE} says nothing of it in {DIAGNOSTICS_TOPIC}: another driver has it, or none"
            return DriverState(Readiness.READY, "no_status", text)
        steps = (person(values[REMEDY]),) if values.get(REMEDY) else ()
        return DriverState(
            Readiness[values[READINESS].upper()], values[STATE], f"{DRIVER_NODE}: {values[TEXT]}", steps
        )


def _read(group: str, message: Any) -> Mapping[str, Any]:
    for status in message.status:
        if status.name == DRIVER_STATUS:
            told = {pair.key: pair.value for pair in status.values}
            if all(f"{group}/{key}" in told for key in (STATE, READINESS, TEXT)):
                return {key: told.get(f"{group}/{key}", "") for key in (STATE, READINESS, TEXT, REMEDY)}
    return {}
