# SPDX-License-Identifier: Apache-2.0
"""Frames of the RH56DFX on its RS-485 line.

    question  EB 90 | id | length | command | address (2, little endian) | data    | checksum
    answer    90 EB | id | length | command | address (2, little endian) | data    | checksum

length counts command, address and data; checksum is the sum of everything between the two header bytes and itself,
modulo 256. A read's question carries the number of bytes wanted; the answer to a write carries one byte, 1.
Source: RH56DFX user manual.
"""

from __future__ import annotations

from wam.devices.errors import DeviceRefused, FrameError

QUESTION, ANSWER = b"\xeb\x90", b"\x90\xeb"
READ, WRITE = 0x11, 0x12
PREFIX = 4
"""Header, id and length: enough to know how much follows."""
OVERHEAD = PREFIX + 3 + 1


def checksum(body: bytes) -> int:
    """Return the checksum over `body`, which begins with the id."""
    return sum(body) & 0xFF


def frame(header: bytes, hand_id: int, command: int, address: int, data: bytes) -> bytes:
    """Return a whole frame."""
    body = bytes([hand_id, 3 + len(data), command]) + address.to_bytes(2, "little") + data
    return header + body + bytes([checksum(body)])


def read_question(hand_id: int, address: int, size: int) -> bytes:
    """Return the question for `size` bytes from `address`."""
    return frame(QUESTION, hand_id, READ, address, bytes([size]))


def write_question(hand_id: int, address: int, data: bytes) -> bytes:
    """Return the order to write `data` to `address`."""
    return frame(QUESTION, hand_id, WRITE, address, data)


def remaining(prefix: bytes) -> int:
    """Return how many bytes follow the first four of an answer.

    Raises:
        FrameError: they do not begin an answer.
    """
    if prefix[:2] != ANSWER:
        raise FrameError(
            "the hand's answer begins with other bytes",
            value=prefix.hex(" "),
            allowed=ANSWER.hex(" "),
            where="the wiring (A and B swapped?), the baud rate (115200), or a second master on the bus",
        )
    return prefix[3] + 1


def answer_data(answer: bytes, *, hand_id: int, command: int, address: int, size: int) -> bytes:
    """Return the data of a whole answer.

    Args:
        answer: from the header to the checksum.
        hand_id: the hand that was asked.
        command: READ or WRITE.
        address: as asked.
        size: number of data bytes expected.

    Raises:
        FrameError: checksum, length, hand, command or address are not those expected.
        DeviceRefused: a write was answered, but not with 1.
    """
    body, given = answer[2:-1], answer[-1]
    if checksum(body) != given:
        raise FrameError(
            f"checksum of an answer of hand {hand_id} is wrong",
            value=f"{given:#04x}",
            allowed=f"{checksum(body):#04x} for {answer.hex(' ')}",
            where="the cable (screening, termination), or a second master on the bus",
        )
    expected = (hand_id, 3 + size, command, address)
    got = (body[0], body[1], body[2], int.from_bytes(body[3:5], "little"))
    if got != expected:
        raise FrameError(
            "an answer does not fit the question (hand, length, command, address)",
            value=str(got),
            allowed=str(expected),
            where="the hand's id, or two hands with the same id on one bus",
        )
    data = body[5:]
    if command == WRITE and data != b"\x01":
        raise DeviceRefused(
            f"hand {hand_id} refused to write address {address}", value=data.hex(" "), allowed="01"
        )
    return data
