# SPDX-License-Identifier: Apache-2.0
"""A device behind its vendor's driver: what is read of its status, its state, and how its drives are switched on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from wam.core.verdict import Finding, Verdict
from wam.devices.following import Following, Vector
from wam.devices.optional import VENDOR_TYPES
from wam.devices.state import DriverState, ListCheck, Readiness, Step, person
from wam.robots.description import JointGroup


@dataclass(frozen=True, slots=True)
class StatusFeed:
    """A topic on which the vendor's driver reports more than joint states.

    Attributes:
        type: message type, a key of `wam.devices.optional`; a vendor's type may be absent.
        topic: relative to the namespace of the suite's nodes.
        read: returns values of a message, by name; they are kept until the next message replaces them.
        latched: published once for late subscribers (transient local).
        seldom: published so fast that only some messages are decoded.
    """

    type: str
    topic: str
    read: Callable[[Any], Mapping[str, Any]]
    latched: bool = False
    seldom: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a device at one moment.

    Attributes:
        now_ns: present time [ns].
        values: newest values of its feeds, by name.
        lacking: types of feeds whose package is not installed, keys of `VENDOR_TYPES`.
        published: joint states have a publisher.
        silent_s: time since the last status message [s].
    """

    now_ns: int
    values: Mapping[str, Any] = field(default_factory=dict)
    lacking: Sequence[str] = ()
    published: bool = True
    silent_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Heard:
    """A joint state as it arrived.

    Attributes:
        stamp_ns: its stamp [ns].
        now_ns: when it arrived [ns].
        names: of its joints, in the driver's words.
        positions: float64 [N] in the group's order and SI units, where they could be read.
    """

    stamp_ns: int
    now_ns: int
    names: tuple[str, ...] = ()
    positions: Vector | None = None


class Drives(Protocol):
    """Drives that the vendor's driver switches on when it is asked to, and that take some time."""

    @property
    def warning(self) -> str:
        """What switching them on does beside that, for whoever asks for it; "" for nothing."""
        ...

    @property
    def forbidden(self) -> str:
        """Why they must not be switched on, and where that is allowed; "" where they may."""
        ...

    @property
    def enabling(self) -> bool:
        """Whether they are being switched on."""
        ...

    def enable(self, now_ns: int) -> None:
        """Begin to switch them on."""
        ...

    def due(self, now_ns: int) -> Step | None:
        """Return the service call that is due at `now_ns` [ns], or None."""
        ...

    def on_enabled(self) -> None:
        """Take that the service said yes."""
        ...

    def on_refused(self, why: str) -> None:
        """Take why the service could not be called, or said no."""
        ...

    def on_recovered(self, steps: Sequence[Step]) -> None:
        """Take that a recovery has carried out all of `steps`, which may have switched them on."""
        ...


class Watch:
    """State of one device from its joint states and status feeds; this one is for a device without a status.

    Called from one thread. A kind of device overrides what it has.

    Args:
        group: the device's joint group.
    """

    def __init__(self, group: JointGroup) -> None:
        self.group = group

    @property
    def feeds(self) -> tuple[StatusFeed, ...]:
        """Status topics to read."""
        return ()

    @property
    def deaf_feeds(self) -> tuple[StatusFeed, ...]:
        """Those of `feeds` that `deaf` looks at."""
        return self.feeds

    @property
    def folder(self) -> str:
        """Namespace of the driver's services, relative; "" for none."""
        return ""

    @property
    def drives(self) -> Drives | None:
        """Drives that must be switched on before the device follows, or None."""
        return None

    @property
    def standing(self) -> tuple[ListCheck, ...]:
        """What the driver's own lists must show for the device to follow; a recovery asks for them in any state."""
        return ()

    def fallen(self, why: str) -> DriverState:
        """Return the state of a device that does not pass `standing`, which `why` says."""
        return DriverState(Readiness.BLOCKED, "fallen", why)

    @property
    def following(self) -> Following | None:
        """Compares commands with joint states, or None for a device whose driver tells by itself that it follows."""
        return None

    @property
    def found(self) -> str:
        """Which release of its driver runs, as far as its messages tell; "" where nothing depends on it."""
        return ""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters of the driver's node that tell its release, or whether it takes commands."""
        return ()

    def on_parameters(self, values: Mapping[str, Any]) -> None:
        """Take those of `parameters` that the driver's node has."""

    def on_joint_state(self, heard: Heard) -> None:
        """Take a joint state; only called for a device with `drives`."""

    def deaf(self, seen: Seen) -> str:
        """Return why the device does not follow commands at the moment; "" where it does, or where nothing is known.

        What it says is reported by the driver: a status that was never seen says nothing.
        """
        return ""

    def not_following(self, seen: Seen) -> Finding | None:
        """Return the cause for which the device is not commanded: reported by its driver, or else guessed; or None."""
        reported = self.deaf(seen)
        guess = "" if self.following is None else self.following.why
        return not_ready(self.group.name, reported or guess, guessed=not reported)

    def state(self, seen: Seen) -> DriverState:
        """Return the state of the device."""
        return DriverState(
            Readiness.READY, "no_status", "its driver has no status of its own; see /diagnostics"
        )


def not_ready(group: str, why: str, *, guessed: bool) -> Finding | None:
    """Return the cause of a device that does not follow, or seems not to; None where there is no reason.

    Args:
        group: its joint group.
        why: "" for none.
        guessed: its driver has not reported it.
    """
    if not why:
        return None
    text = (
        f"{group} seems not to follow: {why}; commands come to rest, then nothing is sent until it does"
        if guessed
        else f"{group} does not follow: {why}; nothing is sent until it does"
    )
    return Finding(Verdict.HOLD, "device_not_ready", text, group, guessed=guessed)


def status_unseen(lacking: Sequence[str]) -> DriverState:
    """Return the state of a device whose status types are not installed.

    Args:
        lacking: keys of `VENDOR_TYPES`.
    """
    packages = packages_of(lacking)
    unseen = f"the device's own status cannot be read without {packages}"
    return DriverState(
        Readiness.DEGRADED,
        "status_unseen",
        f"joint states arrive; {unseen}",
        (person(f"install {packages} in this environment"),),
        unseen,
    )


def packages_of(lacking: Sequence[str]) -> str:
    """Return the packages that hold these types, as a list for a sentence.

    Args:
        lacking: keys of `VENDOR_TYPES`.
    """
    return ", ".join(sorted({VENDOR_TYPES[key][0] for key in lacking}))
