# SPDX-License-Identifier: Apache-2.0
"""Progress bars, shown on a terminal only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def row_progress(console: Console, title: str, *, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yields a function that takes the number of finished units and the total.

    Args:
        console: where to draw; nothing is drawn if it is a file or a pipe.
        title: name of the work.
        unit: unit of the numbers.
    """
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
