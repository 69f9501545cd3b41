# SPDX-License-Identifier: Apache-2.0
"""Simulated hands behind a real serial pseudo-terminal and a real Modbus-TCP server on the loopback interface."""

from __future__ import annotations

import asyncio
import os
import select
import threading
import tty
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wam.devices.inspire import frames
from wam.devices.inspire.link import MockHand
from wam.devices.inspire.registers import REGISTERS, Register, from_bytes, to_bytes
from wam.robots.description import JointKind, JointSpec

TIMEOUT_S = 10.0
BY_ADDRESS = {register.address: register for register in REGISTERS}


class Time:
    """A time that moves only when told; a hand's clock in seconds, the edge's in nanoseconds."""

    def __init__(self) -> None:
        self.ns = 10**12

    def seconds(self) -> float:
        return self.ns * 1e-9

    def advance(self, seconds: float) -> int:
        self.ns += round(seconds * 1e9)
        return self.ns


@pytest.fixture
def moment() -> Time:
    return Time()


class SerialDevice:
    """Hands on one RS-485 line: answers the questions that arrive at the other end of a pseudo-terminal."""

    def __init__(self, hands: dict[int, MockHand]) -> None:
        self.hands = hands
        self.spoil: Callable[[bytes], bytes] = lambda answer: answer
        self.questions: list[bytes] = []
        self._master, self._slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        waiting = b""
        while True:
            ready, _, _ = select.select([self._master, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            waiting += os.read(self._master, 4096)
            while len(waiting) >= frames.PREFIX and len(waiting) >= frames.PREFIX + waiting[3] + 1:
                size = frames.PREFIX + waiting[3] + 1
                question, waiting = waiting[:size], waiting[size:]
                self.questions.append(question)
                answer = self.spoil(self._answer(question))
                if answer:
                    os.write(self._master, answer)

    def _answer(self, question: bytes) -> bytes:
        assert question[:2] == frames.QUESTION
        assert question[-1] == sum(question[2:-1]) % 256
        hand_id, command = question[2], question[4]
        address, data = int.from_bytes(question[5:7], "little"), question[7:-1]
        hand = self.hands.get(hand_id)
        if hand is None:
            return b""
        register = BY_ADDRESS[address]
        if command == frames.READ:
            assert data[0] == register.size
            answer = to_bytes(register, hand.read(register))
        else:
            hand.write(register, from_bytes(register, data))
            answer = b"\x01"
        return frames.frame(frames.ANSWER, hand_id, command, address, answer)

    def unplug(self) -> None:
        """Make the port vanish, as when the USB adapter is pulled."""
        self.close()

    def close(self) -> None:
        if self._thread.is_alive():
            os.write(self._stop_write, b"x")
            self._thread.join(TIMEOUT_S)
            for descriptor in (self._master, self._slave, self._stop_read, self._stop_write):
                os.close(descriptor)


class ModbusDevice:
    """A hand behind pymodbus's own TCP server, in a thread with its own event loop."""

    def __init__(self, hand: MockHand, *, unit: int = 255, port: int = 0) -> None:
        self.hand, self.unit = hand, unit
        self.mute = False
        self.refuse = False
        self._ready = threading.Event()
        self._server: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.port = port
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(TIMEOUT_S)
        assert self._failure is None, self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
            self._ready.set()

    async def _serve(self) -> None:
        from pymodbus.constants import ExcCodes
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        async def act(
            function: int, start: int, address: int, count: int, registers: list[int], values: Any
        ) -> ExcCodes | None:
            if self.refuse:
                return ExcCodes.DEVICE_FAILURE
            block = BY_ADDRESS[address]
            if function == 16:
                signed = tuple(value - 65536 if value > 32767 else value for value in values)
                self.hand.write(block, signed)
            else:
                registers[address - start : address - start + count] = words(block, self.hand.read(block))
            return None

        def sent(sending: bool, packet: bytes) -> bytes:
            return b"" if sending and self.mute else packet

        device = SimDevice(
            self.unit, simdata=[SimData(1000, count=700, values=0, datatype=DataType.REGISTERS)], action=act
        )
        self._loop = asyncio.get_running_loop()
        self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port), trace_packet=sent)
        await self._server.listen()
        self.port = self._server.transport.sockets[0].getsockname()[1]
        self._ready.set()
        await self._server.serving

    def close(self) -> None:
        if self._thread.is_alive():
            assert self._loop is not None
            asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(TIMEOUT_S)
            self._thread.join(TIMEOUT_S)


def words(block: Register, values: tuple[int, ...]) -> list[int]:
    """Return values as Modbus registers; bytes come two to a register, the first one low."""
    if block.width == 2:
        return [value & 0xFFFF for value in values]
    padded = [*values, *([0] * (len(values) % 2))]
    return [low | high << 8 for low, high in zip(padded[::2], padded[1::2], strict=True)]


@pytest.fixture
def serial_device(moment: Time) -> Iterator[SerialDevice]:
    device = SerialDevice({1: MockHand(moment.seconds), 2: MockHand(moment.seconds, hand_id=2)})
    yield device
    device.close()


@pytest.fixture
def modbus_devices(moment: Time) -> Iterator[Callable[..., ModbusDevice]]:
    """Makes Modbus hands; all are closed at the end."""
    made: list[ModbusDevice] = []

    def make(**options: Any) -> ModbusDevice:
        made.append(ModbusDevice(MockHand(moment.seconds), **options))
        return made[-1]

    yield make
    for device in made:
        device.close()


@pytest.fixture
def hand_joints() -> tuple[JointSpec, ...]:
    """The hand's joints as ros2_control drivers name them, thumb first."""
    ranges = {
        "thumb_proximal_yaw_joint": 1.308,
        "thumb_proximal_pitch_joint": 0.6,
        "index_proximal_joint": 1.47,
        "middle_proximal_joint": 1.47,
        "ring_proximal_joint": 1.47,
        "pinky_proximal_joint": 1.47,
    }
    return tuple(
        JointSpec(name, name, JointKind.REVOLUTE, 0.0, upper, 2.0, 20.0, 500.0)
        for name, upper in ranges.items()
    )
