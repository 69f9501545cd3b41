# SPDX-License-Identifier: Apache-2.0
r"""Bytes between the safety node and its MoveIt helper: fixed headers and float64 rows, nothing is unpickled.

    request   "WQ01"  sequence u32  rows u32  columns u32   rows x columns float64
    reply     "WR01"  sequence u32  index i32  length u32   UTF-8 text: "first\tsecond", or why there is no answer

index: first state that collides, -1 none, -2 no answer. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.errors import InputError

Rows = npt.NDArray[np.float64]

_REQUEST = struct.Struct("<4sIII")
_REPLY = struct.Struct("<4sIiI")
REQUEST_MAGIC = b"WQ01"
REPLY_MAGIC = b"WR01"
REQUEST_BYTES = _REQUEST.size
REPLY_BYTES = _REPLY.size
MAX_STATES = 4096
MAX_JOINTS = 256
MAX_TEXT = 4096

FREE = -1
NO_ANSWER = -2


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the helper.

    Attributes:
        sequence: of the request.
        index: first state that collides, `FREE`, or `NO_ANSWER`.
        text: the two bodies, separated by a tab; or why there is no answer.
    """

    sequence: int
    index: int
    text: str


def pack_request(sequence: int, states: Rows) -> bytes:
    """Return a request about `states`, float64 [S, M]."""
    rows = np.ascontiguousarray(states, dtype="<f8")
    return _REQUEST.pack(REQUEST_MAGIC, sequence & 0xFFFFFFFF, *rows.shape) + rows.tobytes()


def request_shape(header: bytes) -> tuple[int, int, int]:
    """Return sequence, rows and columns of a request's header.

    Raises:
        InputError: it is no header, or the sizes are impossible.
    """
    magic, sequence, rows, columns = _REQUEST.unpack(header)
    if magic != REQUEST_MAGIC or not (0 < rows <= MAX_STATES and 0 < columns <= MAX_JOINTS):
        raise InputError("request to the MoveIt helper is malformed", value=f"{magic!r} {rows} x {columns}")
    return int(sequence), int(rows), int(columns)


def pack_reply(reply: Reply) -> bytes:
    """Return a reply; text beyond `MAX_TEXT` bytes is cut."""
    text = reply.text.encode("utf-8")[:MAX_TEXT]
    return _REPLY.pack(REPLY_MAGIC, reply.sequence & 0xFFFFFFFF, reply.index, len(text)) + text


def take_reply(buffer: bytearray) -> Reply | None:
    """Remove the first whole reply from `buffer` and return it, or None while it is not whole.

    Raises:
        InputError: the bytes are no reply.
    """
    if len(buffer) < REPLY_BYTES:
        return None
    magic, sequence, index, length = _REPLY.unpack_from(buffer)
    if magic != REPLY_MAGIC or length > MAX_TEXT or index < NO_ANSWER:
        raise InputError("reply of the MoveIt helper is malformed", value=repr(bytes(buffer[:REPLY_BYTES])))
    if len(buffer) < REPLY_BYTES + length:
        return None
    text = bytes(buffer[REPLY_BYTES : REPLY_BYTES + length]).decode("utf-8", errors="replace")
    del buffer[: REPLY_BYTES + length]
    return Reply(int(sequence), int(index), text)
