# SPDX-License-Identifier: Apache-2.0
"""The planner's rolling K/V memory on the control clock (paper section 3.4, Eq. 13).

Entries are keys before rotation and values of earlier prefills. They are chosen and placed by acquisition
stamps, never by a count of calls:

- An entry is kept when it is the prefill nearest to `spacing_rows` control rows after the last kept one, and
  read when it is about that old, so that a prefill sees its past at the distances of training.
- Positions are counted from the oldest entry, so they stay below (window + 2) * spacing / stride however
  long the planner runs, and keys are rotated anew for every prefill, so no rounding accumulates.
- An entry older than (window + 1) * spacing rows is dropped: training never looked that far back.

Shapes: L layers, S tokens of one frame, M memory tokens, I attention width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wam.policies.aha_wam.video_dit import LayerKv


@dataclass(frozen=True, slots=True)
class MemoryEntry:
    """One earlier prefill.

    Attributes:
        stamp_ns: acquisition time of its image [ns].
        k_unrotated: [L, 1, S, I] normalised keys before rotation.
        v: [L, 1, S, I].
    """

    stamp_ns: int
    k_unrotated: Tensor
    v: Tensor


@dataclass(frozen=True, slots=True)
class MemoryView:
    """What one prefill may read.

    Attributes:
        entries: oldest first, at most the window.
        entry_positions: temporal rotary position of each entry.
        own_position: temporal rotary position of the new frame.
    """

    entries: tuple[MemoryEntry, ...]
    entry_positions: tuple[int, ...]
    own_position: int

    def stacked(self) -> LayerKv | None:
        """Return the entries joined along the tokens, or None where there are none."""
        if not self.entries:
            return None
        return LayerKv(
            torch.cat([e.k_unrotated for e in self.entries], dim=2),
            torch.cat([e.v for e in self.entries], dim=2),
        )


class RollingMemory:
    """FIFO of earlier prefills. Used by the planner's worker thread alone.

    Args:
        window: most entries that a prefill reads; 0 keeps nothing.
        spacing_rows: control rows between two entries.
        stride: control rows per unit of rotary position.
        period_ns: time between two control rows [ns].
    """

    def __init__(self, *, window: int, spacing_rows: int, stride: int, period_ns: int) -> None:
        self._window = window
        self._spacing_rows = spacing_rows
        self._stride = stride
        self._period_ns = period_ns
        self._entries: list[MemoryEntry] = []
        self._waiting: MemoryEntry | None = None
        self._last_ns: int | None = None
        self._threshold_rows = float(spacing_rows)

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._waiting = None
        self._last_ns = None

    def _rows(self, later_ns: int, earlier_ns: int) -> int:
        return round((later_ns - earlier_ns) / self._period_ns)

    def view(self, stamp_ns: int) -> MemoryView:
        """Return what a prefill of the image taken at `stamp_ns` reads; call before `admit`.

        The entry that waits becomes readable here, and entries that training never reached back to go.
        """
        # Half an interval early is nearer to the spacing than the next prefill will be.
        interval = 0 if self._last_ns is None else self._rows(stamp_ns, self._last_ns)
        self._threshold_rows = self._spacing_rows - min(interval, self._spacing_rows) / 2
        self._last_ns = stamp_ns
        waiting = self._waiting
        if waiting is not None and self._rows(stamp_ns, waiting.stamp_ns) >= self._threshold_rows:
            self._entries = [*self._entries, waiting][-self._window :]
            self._waiting = None
        reach = (self._window + 1) * self._spacing_rows
        self._entries = [e for e in self._entries if self._rows(stamp_ns, e.stamp_ns) <= reach]
        known = [*self._entries] if self._waiting is None else [*self._entries, self._waiting]
        base_ns = known[0].stamp_ns if known else stamp_ns
        return MemoryView(
            entries=tuple(self._entries),
            entry_positions=tuple(self._rows(e.stamp_ns, base_ns) // self._stride for e in self._entries),
            own_position=self._rows(stamp_ns, base_ns) // self._stride,
        )

    def admit(self, entry: MemoryEntry) -> bool:
        """Keep `entry` if it is far enough after the last kept one; call after `view` of the same stamp.

        Returns:
            Whether it was kept.
        """
        if self._window == 0 or self._waiting is not None:
            return False
        if self._entries and self._rows(entry.stamp_ns, self._entries[-1].stamp_ns) < self._threshold_rows:
            return False
        self._waiting = entry
        return True
