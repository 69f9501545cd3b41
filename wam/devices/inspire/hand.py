# SPDX-License-Identifier: Apache-2.0
"""One hand: what is written and read each cycle, what protects it, and the state it is in."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from wam.core.clock import NS_PER_S
from wam.devices.errors import LinkError, LinkLost
from wam.devices.inspire.link import HandLink
from wam.devices.inspire.registers import (
    ANGLE_ACT,
    ANGLE_SET,
    CLEAR_ERROR,
    ERROR,
    FINGER_COUNT,
    FORCE_ACT,
    FORCE_CALIBRATION,
    FORCE_SET,
    GRAVE,
    KEEP,
    RAW_CLOSED,
    RAW_OPEN,
    SPEED_SET,
    STATUS,
    TEMPERATURE,
    ErrorBits,
    Finger,
    FingerStatus,
    Register,
    finger_status,
)
from wam.devices.state import DriverState, Readiness, person, service

SERIAL_RATE, MODBUS_RATE = 40.0, 60.0
"""Default rates of one hand [Hz]."""
MAX_SERIAL_RATE, MAX_MODBUS_RATE = 50.0, 100.0
"""Highest rates of one hand; two on one bus share it [Hz]."""
CALIBRATION_NS = 15 * NS_PER_S
OPEN_ENOUGH = 950
SLOW_BLOCKS = (ERROR, TEMPERATURE, FORCE_ACT, STATUS)
"""Read in turn, one per cycle, so that the loop keeps its rate."""

GRAM_FORCE = 9.80665e-3
FORCE_LINES = {
    Finger.INDEX: (0.007478, -0.414),
    Finger.MIDDLE: (0.006452, 0.018),
    Finger.THUMB_BEND: (0.012547, 0.384),
}
"""Measured force [N] = slope * raw + offset; other fingers by the data sheet's gram-force (arXiv 2603.08988)."""


@dataclass(frozen=True, slots=True)
class HandSettings:
    """How a hand is used.

    Attributes:
        write_enabled: whether anything is written at all.
        speed: 0..1000; 1000 is full travel in about 0.8 s. The force limit is overshot by up to +211 % at 1000 and
            +5 % at 25: slow down before contact.
        force: limit of each finger, raw 0..1000 (about grams).
        temperature_limit: at this temperature of any finger the hand stops closing [degC].
        temperature_resume: below this one the protection can be cleared [degC].
        dead_band: smaller changes of a target are not written [raw].
        lost_after: failed cycles in a row after which the link is opened anew.
        reconnect_ns: time between two attempts to open it [ns].
    """

    write_enabled: bool = False
    speed: int = 1000
    force: int = 500
    temperature_limit: int = 70
    temperature_resume: int = 60
    dead_band: int = 4
    lost_after: int = 5
    reconnect_ns: int = NS_PER_S


@dataclass(frozen=True, slots=True)
class HandReading:
    """What is known of the hand; six values each, in the order of `Finger`.

    Attributes:
        stamp_ns: when the angles were read [ns].
        angles: 0 closed .. 1000 open.
        forces: raw; negative when pushed open.
        errors: error bits.
        statuses: status.
        temperatures: [degC].
    """

    stamp_ns: int
    angles: tuple[int, ...]
    forces: tuple[int, ...]
    errors: tuple[ErrorBits, ...]
    statuses: tuple[FingerStatus, ...]
    temperatures: tuple[int, ...]


class Phase(enum.Enum):
    """Where the hand's edge stands."""

    LOST = "lost"
    FOLLOWING = "following"
    PROTECTING = "protecting"  # latched: fingers may open, not close
    CALIBRATING = "calibrating"


def force_newton(finger: Finger, raw: int) -> float:
    """Return a finger's force [N] from its raw value."""
    slope, offset = FORCE_LINES.get(finger, (GRAM_FORCE, 0.0))
    return slope * raw + offset


class InspireHand:
    """Writes targets, reads the hand, protects it. Called from one thread.

    Args:
        link: carries the registers.
        settings: how the hand is used.
        name: for texts, e.g. "right hand".
    """

    def __init__(self, link: HandLink, settings: HandSettings | None = None, *, name: str = "hand") -> None:
        self._link = link
        self.settings = settings or HandSettings()
        self._name = name
        self.phase = Phase.LOST
        self.write_enabled = self.settings.write_enabled
        self.reading: HandReading | None = None
        self.failures = 0
        self.transactions = 0
        self._failed_in_row = 0
        self._linked = False
        self._last_error = "not opened yet"
        self._retry_ns: int | None = None
        self._sent: list[int] | None = None
        self._floor = [0] * FINGER_COUNT
        self._cause = ""
        self._turn = 0
        self._calibrated_ns = 0
        self._limits_written = False

    def step(self, target: tuple[int, ...] | None, now_ns: int) -> HandReading | None:
        """Run one cycle: open if lost, write, read, judge.

        Args:
            target: raw target of each finger, KEEP where there is none; None writes nothing new.
            now_ns: present time [ns].

        Returns:
            The reading of this cycle, or None when the hand could not be read.
        """
        try:
            if not self._linked and not self._reopen(now_ns):
                return None
            if self.phase is Phase.CALIBRATING and now_ns >= self._calibrated_ns:
                self.phase = Phase.FOLLOWING
            self._write(target)
            reading = self._read(now_ns)
            if self.phase is Phase.LOST:
                self.phase = Phase.PROTECTING if self._cause else Phase.FOLLOWING
            self._judge(reading)
        except LinkError as error:
            self._fail(error, now_ns)
            return None
        self._failed_in_row = 0
        return reading

    def clear(self) -> DriverState:
        """Clear the hand's errors and end the protection, unless the hand is still too warm; return the state.

        Raises:
            LinkError: the hand could not be reached; the protection stays.
        """
        if self.phase is not Phase.PROTECTING:
            return self.state()
        temperatures = self._get(TEMPERATURE)
        if max(temperatures) > self.settings.temperature_resume:
            self._cause = (
                f"{max(temperatures)} degC; clearing needs {self.settings.temperature_resume} degC or less"
            )
            return self.state()
        self._put(CLEAR_ERROR, (1,))
        errors = tuple(ErrorBits(value & 0x1F) for value in self._get(ERROR))
        left = _grave(errors)
        if left:
            self._cause = f"{left} is still there after clearing"
            return self.state()
        if self.reading is not None:
            self.reading = HandReading(
                self.reading.stamp_ns,
                self.reading.angles,
                self.reading.forces,
                errors,
                self.reading.statuses,
                temperatures,
            )
        self.phase, self._cause = Phase.FOLLOWING, ""
        self._floor = [0] * FINGER_COUNT
        self._sent = None
        return self.state()

    def calibrate_force(self, now_ns: int) -> str:
        """Start the hand's force calibration (about 15 s, open and unloaded); return why not, or "".

        Raises:
            LinkError: the hand could not be reached.
        """
        if not self.write_enabled or self.phase is not Phase.FOLLOWING:
            return f"the {self._name} is {self.state().code}; it must be ready"
        if self.reading is None or min(self.reading.angles) < OPEN_ENOUGH:
            return f"the {self._name} is not open (every finger at raw {OPEN_ENOUGH} or more, with nothing in it)"
        self._put(FORCE_CALIBRATION, (1,))
        self.phase, self._calibrated_ns = Phase.CALIBRATING, now_ns + CALIBRATION_NS
        return ""

    def close(self) -> None:
        """Close the link; the hand holds its last target by itself."""
        self._link.close()
        self.phase, self._linked, self._retry_ns = Phase.LOST, False, None
        self._last_error = "closed"

    def state(self) -> DriverState:
        """Return the state of the hand."""
        name = self._name
        if self.phase is Phase.LOST:
            return DriverState(
                Readiness.ABSENT,
                "hand_lost",
                f"the {name} cannot be reached: {self._last_error}",
                (
                    person("check power and cable of the hand"),
                    person(
                        "check `port` or `host`, and the hand's id; the connection is retried every second"
                    ),
                ),
            )
        if self.phase is Phase.PROTECTING:
            return DriverState(
                Readiness.BLOCKED,
                "hand_protecting",
                f"the {name} stopped closing: {self._cause}",
                (
                    person("take the load off the fingers; opening commands still work"),
                    person(f"wait until every finger is at {self.settings.temperature_resume} degC or less"),
                    service("~/clear_errors", "clear the hand's errors"),
                ),
            )
        if self.phase is Phase.CALIBRATING:
            return DriverState(
                Readiness.WAITING, "hand_calibrating", f"the {name} calibrates its force sensors (15 s)"
            )
        if not self.write_enabled:
            return DriverState(
                Readiness.WAITING,
                "hand_write_disabled",
                f"the {name} is read only",
                (service("~/enable", "allow writing (std_srvs/SetBool true)", moves=True),),
            )
        if self._failed_in_row:
            return DriverState(
                Readiness.DEGRADED,
                "hand_link_faulty",
                f"{self._failed_in_row} failed cycles in a row: {self._last_error}",
                (person("check the cable, its screening and termination"),),
            )
        return DriverState(Readiness.READY, "hand_ready", f"the {name} follows")

    def _reopen(self, now_ns: int) -> bool:
        # Bounded from above: a clock that went back must not stop the attempts for the length of the jump.
        wait_ns = 0 if self._retry_ns is None else self._retry_ns - now_ns
        if 0 < wait_ns <= self.settings.reconnect_ns:
            return False
        self._retry_ns = now_ns + self.settings.reconnect_ns
        self._link.open()
        # An open port proves no hand: it stays lost until a whole cycle succeeds, and gets several to do so.
        self._linked, self._failed_in_row = True, 0
        self._sent, self._limits_written = None, False
        return True

    def _write(self, target: tuple[int, ...] | None) -> None:
        if not self.write_enabled or self.phase is Phase.CALIBRATING:
            return
        if not self._limits_written:
            self._put(SPEED_SET, (self.settings.speed,) * FINGER_COUNT)
            self._put(FORCE_SET, (self.settings.force,) * FINGER_COUNT)
            self._limits_written = True
        sent = self._sent or [KEEP] * FINGER_COUNT
        wanted = list(target) if target is not None else list(sent)
        wanted = [old if new == KEEP else new for old, new in zip(sent, wanted, strict=True)]
        if self._cause:
            wanted = [KEEP if w == KEEP else max(w, f) for w, f in zip(wanted, self._floor, strict=True)]
        changes = [self._change(old, new) for old, new in zip(sent, wanted, strict=True)]
        if all(change == KEEP for change in changes):
            return
        # Whether a write that fails arrived is not known: the next one is then sent whole.
        self._sent = None
        self._put(ANGLE_SET, tuple(changes))
        self._sent = [old if new == KEEP else new for old, new in zip(sent, changes, strict=True)]

    def _change(self, old: int, new: int) -> int:
        """Return the new target of a finger, or KEEP where the old one is near enough."""
        if new in (KEEP, old):
            return KEEP
        near = old != KEEP and abs(new - old) < self.settings.dead_band
        # The ends are always reached: a hand that is told to open opens all the way.
        return KEEP if near and new not in (RAW_CLOSED, RAW_OPEN) else new

    def _read(self, now_ns: int) -> HandReading:
        angles = self._get(ANGLE_ACT)
        last = self.reading
        if last is None:
            blocks = {block.name: self._get(block) for block in SLOW_BLOCKS}
        else:
            block = SLOW_BLOCKS[self._turn % len(SLOW_BLOCKS)]
            self._turn += 1
            blocks = {block.name: self._get(block)}
        errors, statuses = blocks.get(ERROR.name), blocks.get(STATUS.name)
        self.reading = HandReading(
            now_ns,
            angles,
            blocks.get(FORCE_ACT.name) or (last.forces if last else ()),
            tuple(ErrorBits(value & 0x1F) for value in errors) if errors else (last.errors if last else ()),
            tuple(map(finger_status, statuses)) if statuses else (last.statuses if last else ()),
            blocks.get(TEMPERATURE.name) or (last.temperatures if last else ()),
        )
        return self.reading

    def _judge(self, reading: HandReading) -> None:
        hottest = max(reading.temperatures)
        grave = _grave(reading.errors)
        if hottest >= self.settings.temperature_limit:
            finger = Finger(reading.temperatures.index(hottest)).name.lower()
            cause = f"{finger} is at {hottest} degC, limit {self.settings.temperature_limit} degC"
        elif grave:
            cause = grave
        else:
            return
        if self.phase is not Phase.PROTECTING:
            self.phase, self._cause = Phase.PROTECTING, cause
            self._floor = [min(max(angle, RAW_CLOSED), RAW_OPEN) for angle in reading.angles]
            if self.write_enabled:
                # The fingers may be closing on an older target: they stop where they are, at once.
                stop = tuple(
                    max(old, floor) for old, floor in zip(self._sent or self._floor, self._floor, strict=True)
                )
                self._sent = None
                self._put(ANGLE_SET, stop)
                self._sent = list(stop)

    def _fail(self, error: LinkError, now_ns: int) -> None:
        self.failures += 1
        self._failed_in_row += 1
        self._last_error = str(error)
        if isinstance(error, LinkLost) or self._failed_in_row >= self.settings.lost_after:
            self._link.close()
            self.phase, self._linked, self._sent = Phase.LOST, False, None
            self._retry_ns = now_ns + self.settings.reconnect_ns

    def _get(self, register: Register) -> tuple[int, ...]:
        self.transactions += 1
        return self._link.read(register)

    def _put(self, register: Register, values: tuple[int, ...]) -> None:
        self.transactions += 1
        self._link.write(register, values)


def _grave(errors: tuple[ErrorBits, ...]) -> str:
    """Name the first finger with an error after which the hand must not close, or ""."""
    for finger, bits in enumerate(errors):
        if bits & GRAVE:
            names = [bit.name for bit in ErrorBits if bit and bit in bits & GRAVE and bit.name]
            return f"{Finger(finger).name.lower()} reports {', '.join(names).lower().replace('_', ' ')}"
    return ""
