# SPDX-License-Identifier: Apache-2.0
"""Progress bars on the terminal; none where nobody looks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def row_progress(console: Console, title: str, *, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that is called with how much is done and how much there is.

    Args:
        console: where to draw; a file or a pipe gets nothing.
        title: what is done.
        unit: what is counted.
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
