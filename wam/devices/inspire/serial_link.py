# SPDX-License-Identifier: Apache-2.0
"""RH56DFX on a serial line. Two hands may share one RS-485 bus; their transactions then follow one another."""

from __future__ import annotations

import termios
import threading

import serial

from wam.devices.errors import LinkLost, LinkTimeout
from wam.devices.inspire import frames
from wam.devices.inspire.registers import Register, check_values, from_bytes, to_bytes

BAUD_RATE = 115200
TIMEOUT_S = 0.05
"""Longest wait for an answer; a transaction takes about 6 ms [s]."""


class SerialBus:
    """One serial port, shared by the hands on it; one transaction at a time, from any thread.

    Args:
        port: device file, e.g. /dev/serial/by-id/...
        baud_rate: [Bd].
        timeout: longest wait for a whole answer [s].
    """

    def __init__(self, port: str, *, baud_rate: int = BAUD_RATE, timeout: float = TIMEOUT_S) -> None:
        self.port = port
        self._baud_rate, self._timeout = baud_rate, timeout
        self._lock = threading.Lock()
        self._serial: serial.Serial | None = None

    def open(self) -> None:
        """Open the port for this process alone.

        Raises:
            LinkLost: it does not exist, may not be used, or another process has it.
        """
        with self._lock:
            if self._serial is not None:
                return
            try:
                self._serial = serial.Serial(
                    self.port,
                    self._baud_rate,
                    timeout=self._timeout,
                    write_timeout=self._timeout,
                    exclusive=True,
                )
            except (OSError, ValueError) as error:
                raise LinkLost(
                    f"serial port {self.port} cannot be opened",
                    value=str(error),
                    where="the parameter `port`; the cable; the group dialout; another program on the port",
                ) from error

    def close(self) -> None:
        """Close the port; safe to call twice."""
        with self._lock:
            self._close()

    def transact(self, question: bytes, *, hand_id: int) -> bytes:
        """Send a question and return the whole answer.

        Raises:
            LinkTimeout: no whole answer came in time.
            FrameError: what came does not begin an answer.
            LinkLost: the port is gone or was never opened.
        """
        with self._lock:
            if self._serial is None:
                raise LinkLost(f"serial port {self.port} is not open", where="the caller: open() first")
            try:
                # What is left of a late answer must not be taken for the answer to this question.
                self._serial.reset_input_buffer()
                self._send(question)
                prefix = self._exactly(frames.PREFIX, hand_id)
                return prefix + self._exactly(frames.remaining(prefix), hand_id)
            except (OSError, TypeError, termios.error) as error:
                # termios.error is no OSError; TypeError is what pyserial gives when its descriptor vanishes.
                self._close()
                raise LinkLost(
                    f"serial port {self.port} was lost",
                    value=str(error),
                    where="the cable of the hand or of its USB adapter",
                ) from None

    def _send(self, question: bytes) -> None:
        assert self._serial is not None
        try:
            self._serial.write(question)
        except serial.SerialTimeoutException:
            # pyserial says so as well when all was sent and this thread slept afterwards: the answer tells.
            return

    def _exactly(self, count: int, hand_id: int) -> bytes:
        assert self._serial is not None
        data: bytes = self._serial.read(count)
        if len(data) < count:
            raise self._silence(hand_id, f"{len(data)} of {count} bytes")
        return data

    def _silence(self, hand_id: int, got: str) -> LinkTimeout:
        return LinkTimeout(
            f"hand {hand_id} on {self.port} did not answer within {self._timeout:g} s",
            value=got,
            allowed="a whole answer",
            where="the hand's power, its id, or the baud rate",
        )

    def _close(self) -> None:
        port, self._serial = self._serial, None
        if port is not None:
            try:
                port.close()
            except OSError:
                pass


class SerialLink:
    """One hand on a `SerialBus`.

    Args:
        bus: shared by the hands on it.
        hand_id: 1..254, as set in the hand.
    """

    def __init__(self, bus: SerialBus, *, hand_id: int = 1) -> None:
        if not 1 <= hand_id <= 254:
            raise ValueError(f"hand_id = {hand_id}; allowed: 1 .. 254")
        self._bus, self._id = bus, hand_id

    def open(self) -> None:
        """Open the bus if it is not open."""
        self._bus.open()

    def close(self) -> None:
        """Close the bus, for the other hand on it as well."""
        self._bus.close()

    def read(self, register: Register) -> tuple[int, ...]:
        """Return the values of a block."""
        question = frames.read_question(self._id, register.address, register.size)
        answer = self._bus.transact(question, hand_id=self._id)
        data = frames.answer_data(
            answer, hand_id=self._id, command=frames.READ, address=register.address, size=register.size
        )
        return from_bytes(register, data)

    def write(self, register: Register, values: tuple[int, ...]) -> None:
        """Write a block."""
        check_values(register, values)
        question = frames.write_question(self._id, register.address, to_bytes(register, values))
        answer = self._bus.transact(question, hand_id=self._id)
        frames.answer_data(answer, hand_id=self._id, command=frames.WRITE, address=register.address, size=1)
