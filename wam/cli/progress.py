# SPDX-License-Identifier: Apache-2.0
"""Progress: bars and a changing line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINE_PERIOD_S = 10.0
"""Time between two lines where the output is no terminal [s]."""
COUNT_PERIOD_S = 30.0
"""The same for work that is counted, which may take hours [s]."""


@contextlib.contextmanager
def changing_line(
    console: Console, text: str, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[str], None]]:
    """Show a line that changes; yields a function that takes its new text.

    In a file or a pipe the first text is a line, and what has changed since is one every `LINE_PERIOD_S`.

    Args:
        console: where to show it.
        text: at first.
        clock: a time that only grows [s].
    """
    if console.is_terminal:
        with console.status(text) as status:
            yield lambda changed: status.update(changed)
        return
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    shown_at, shown = clock(), text

    def line(changed: str) -> None:
        nonlocal shown_at, shown
        if changed != shown and clock() - shown_at >= LINE_PERIOD_S:
            shown_at, shown = clock(), changed
            console.print(changed, soft_wrap=True, highlight=False, markup=False)

    yield line


@contextlib.contextmanager
def row_progress(
    console: Console, title: str, *, unit: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yields a function that takes the number of finished units and the total.

    Args:
        console: where to draw; a file or a pipe gets a line every `COUNT_PERIOD_S`.
        title: name of the work.
        unit: unit of the numbers.
        clock: a time that only grows [s].
    """
    if not console.is_terminal:
        said_at = clock()

        def say(done: int, total: int) -> None:
            nonlocal said_at
            if clock() - said_at >= COUNT_PERIOD_S:
                said_at = clock()
                console.print(
                    f"{title}: {done:,} of {total:,} {unit}", soft_wrap=True, highlight=False, markup=False
                )

        yield say
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
