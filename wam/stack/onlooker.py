# SPDX-License-Identifier: Apache-2.0
"""A process that only watches the nodes: it runs at the lowest priority, and nothing waits for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wam.stack.processes import NodeProcess, NodeSpec

NICENESS = 10
"""Added to the priority of the process: whatever controls the robot comes first."""

AUTOGROUP = Path("/proc/self/autogroup")


@dataclass(frozen=True, slots=True)
class OnlookerEnd:
    """How an onlooker ended.

    Attributes:
        code: exit code, negative for a signal.
        early: whether it ended before it was asked to.
        log: file of what it said.
        tail: the last lines of it.
    """

    code: int
    early: bool
    log: Path
    tail: str

    @property
    def when(self) -> str:
        """When it ended, as the end of a sentence."""
        return "before the run did" if self.early else "and may have shown less than there was"


@contextlib.contextmanager
def onlooker(
    spec: NodeSpec, *, log_dir: Path, ended: Callable[[OnlookerEnd], None], patience: float
) -> Iterator[NodeProcess]:
    """Have a process watch while the block runs, and give it.

    Args:
        spec: the process.
        log_dir: where it writes its log.
        ended: called at the end of the block.
        patience: time to end after it was asked to [s].
    """
    process = NodeProcess(spec, log_dir=log_dir, environment=os.environ)
    try:
        yield process
    finally:
        early = process.exit_code() is not None
        code = process.stop(interrupt=patience)
        ended(OnlookerEnd(code, early, process.log, process.log_tail()))


def give_way() -> None:
    """Lower the priority of this process, whose session is its own."""
    os.nice(NICENESS)
    # Where Linux groups tasks by session it weighs the groups: niceness within one of its own counts for nothing.
    with contextlib.suppress(OSError):
        AUTOGROUP.write_text(str(NICENESS), encoding="ascii")
