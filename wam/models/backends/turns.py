# SPDX-License-Identifier: Apache-2.0
"""A chunk goes first: a planner's long stage gives way between two of its slices while a chunk is being computed.

Planner and executor share a device, and a kernel that runs is not interrupted. A prefill in one piece delays a chunk by
all that is left of it; one in slices delays it by one slice.
"""

from __future__ import annotations

import threading
import time
from weakref import WeakValueDictionary

import torch

LONGEST_WAIT_S = 0.2
"""A prefill waits no longer than this in all: an executor that died in a chunk must not stop the planner."""


class DeviceTurns:
    """Who may use a device next. Safe to call from any thread.

    Args:
        device: that is shared.

    Attributes:
        waits: times that a slice has waited for a chunk.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._chunks: set[int] = set()
        self._changed = threading.Condition()
        self.waits = 0

    def chunk_begins(self, owner: object) -> None:
        """Take note that an executor computes a chunk; again for the next one if `chunk_ended` was never called."""
        with self._changed:
            self._chunks.add(id(owner))

    def chunk_ended(self, owner: object) -> None:
        """Let waiting slices go on."""
        with self._changed:
            self._chunks.discard(id(owner))
            self._changed.notify_all()

    def let_chunks_pass(self, *, until_s: float) -> None:
        """Return when no chunk is being computed.

        Args:
            until_s: time on the monotonic clock at which to return anyway [s].
        """
        if self._device.type == "cuda":
            # What has been launched runs before anything that comes later: only one slice may be under way.
            torch.cuda.current_stream(self._device).synchronize()
        with self._changed:
            if self._chunks:
                self.waits += 1
            while self._chunks and (left := until_s - time.monotonic()) > 0:
                self._changed.wait(left)


_turns: WeakValueDictionary[str, DeviceTurns] = WeakValueDictionary()
_lock = threading.Lock()


def turns_of(device: torch.device | str) -> DeviceTurns:
    """Return the turns of a device, which planner and executor of one process share."""
    with _lock:
        return _turns.setdefault(str(torch.device(device)), DeviceTurns(device))
