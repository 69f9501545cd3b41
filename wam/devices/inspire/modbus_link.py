# SPDX-License-Identifier: Apache-2.0
"""RH56E2 and RH56FTP over Modbus-TCP: function 3 reads, function 16 writes."""

from __future__ import annotations

import logging

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ModbusPDU

from wam.devices.errors import DeviceRefused, FrameError, LinkLost, LinkTimeout
from wam.devices.inspire.registers import Register, check_values

DEFAULT_HOST, DEFAULT_PORT, DEFAULT_UNIT = "192.168.11.210", 6000, 255
"""Factory settings, the same for left and right hands."""
TIMEOUT_S = 0.1
SIGN = 1 << 15

# Each failure is raised with its reason; pymodbus would print it as well, at every cycle.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)


class ModbusLink:
    """One hand behind a Modbus-TCP address.

    Args:
        host: address of the hand.
        port: TCP port.
        unit: Modbus unit: 255, or 1 on some firmware.
        timeout: longest wait for the connection and for an answer [s].
    """

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        *,
        port: int = DEFAULT_PORT,
        unit: int = DEFAULT_UNIT,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self._place, self._unit, self._timeout = f"{host}:{port}", unit, timeout
        self._client = ModbusTcpClient(host, port=port, timeout=timeout, retries=0)
        self._opened = False

    def open(self) -> None:
        """Connect.

        Raises:
            LinkLost: nobody answers there.
        """
        if self._opened and self._client.connected:
            return
        self._client.close()  # type: ignore[no-untyped-call]  # pymodbus leaves it unannotated
        if not self._client.connect():  # type: ignore[no-untyped-call]  # pymodbus leaves it unannotated
            raise LinkLost(
                f"hand at {self._place} cannot be reached",
                where="the parameter `host` (both hands leave the factory with the same address), the cable, "
                "and this machine's address in the hand's subnet",
            )
        self._opened = True

    def close(self) -> None:
        """Disconnect; safe to call twice."""
        self._opened = False
        self._client.close()  # type: ignore[no-untyped-call]  # pymodbus leaves it unannotated

    def read(self, register: Register) -> tuple[int, ...]:
        """Return the values of a block."""
        if register.width == 2:
            words = self._read(register, register.count)
            return tuple(word - (1 << 16) if word & SIGN else word for word in words)
        words = self._read(register, (register.count + 1) // 2)
        # Two bytes to a register, the lower address in the low byte, as on the serial line.
        values = [byte for word in words for byte in (word & 0xFF, word >> 8)]
        return tuple(values[: register.count])

    def write(self, register: Register, values: tuple[int, ...]) -> None:
        """Write a block."""
        check_values(register, values)
        words = [value & 0xFFFF for value in values]
        self._require_open()
        try:
            answer = self._client.write_registers(register.address, words, device_id=self._unit)
        except ModbusException as error:
            raise self._failure(register, error) from None
        self._check(register, answer)

    def _read(self, register: Register, count: int) -> list[int]:
        self._require_open()
        try:
            answer = self._client.read_holding_registers(register.address, count=count, device_id=self._unit)
        except ModbusException as error:
            raise self._failure(register, error) from None
        self._check(register, answer)
        if len(answer.registers) != count:
            raise FrameError(
                f"hand at {self._place} answered {register.name} with another number of registers",
                value=len(answer.registers),
                allowed=str(count),
                where="the hand's firmware",
            )
        return list(answer.registers)

    def _require_open(self) -> None:
        if not self._opened or not self._client.connected:
            self._opened = False
            raise LinkLost(f"hand at {self._place} is not connected", where="the caller: open() first")

    def _check(self, register: Register, answer: ModbusPDU) -> None:
        if answer.isError():
            raise DeviceRefused(
                f"hand at {self._place} refused {register.name} (address {register.address})",
                value=f"Modbus exception {answer.exception_code}",
                allowed="1 unknown function, 2 unknown address, 3 illegal value, 4 device failure",
                where="the parameter `unit` (255 or 1), or the hand's model: tactile registers are E2-T and FTP only",
            )

    def _failure(self, register: Register, error: ModbusException) -> LinkLost | LinkTimeout:
        # After a time-out a late answer could be taken for the next one: the connection is made anew.
        self.close()
        if isinstance(error, ConnectionException):
            return LinkLost(
                f"connection to the hand at {self._place} was lost",
                value=str(error),
                where="the network cable or the hand's power",
            )
        return LinkTimeout(
            f"hand at {self._place} did not answer {register.name} within {self._timeout:g} s",
            value=str(error),
            where="the network (is it shared with cameras?), or the hand's power",
        )
