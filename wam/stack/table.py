# SPDX-License-Identifier: Apache-2.0
"""The live status table of a demo."""

from __future__ import annotations

import math
import time
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder
from wam.stack.demo import Progress
from wam.stack.recorder import GrowingSeries

PLAIN_PERIOD_S = 5.0
RATE_SPAN_NS = NS_PER_S // 5
"""Messages within a shorter time say nothing of their rate: those that waited in a queue come at once [ns]."""

LADDER_STYLE = {Ladder.NOMINAL: "green", Ladder.LATE: "yellow", Ladder.SLOW: "yellow"}


class LiveTable:
    """Shows a run's progress: a table that refreshes on a terminal, a line every few seconds elsewhere.

    Args:
        console: where to print.
        title: headline.
    """

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._printed = -math.inf
        self._phase = ""

    def __enter__(self) -> LiveTable:
        """Start showing."""
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def show(self, progress: Progress) -> None:
        """Show the present state."""
        if self._live is not None:
            self._live.update(self._table(progress))
            return
        now = time.monotonic()
        if progress.phase != self._phase or now - self._printed >= PLAIN_PERIOD_S:
            self._printed, self._phase = now, progress.phase
            rows = "; ".join(f"{name}: {text}" for name, text in _rows(progress) if text)
            self._console.print(
                f"{progress.phase} {progress.elapsed:4.0f}/{progress.total:.0f} s  {rows}", soft_wrap=True
            )

    def _table(self, progress: Progress) -> Table:
        table = Table(title=self._title, caption=progress.phase, min_width=76, show_lines=False)
        table.add_column("node", style="bold", no_wrap=True)
        table.add_column("state")
        for name, text in _rows(progress):
            table.add_row(name, text)
        bar = ProgressBar(total=progress.total, completed=min(progress.elapsed, progress.total), width=48)
        table.add_section()
        table.add_row(f"{progress.elapsed:3.0f} / {progress.total:.0f} s", bar)
        return table


def _rows(progress: Progress) -> list[tuple[str, str]]:
    recorder = progress.recorder
    planner, executor = recorder.planner_status, recorder.executor_status
    rows = [
        ("sim", f"{_rate(progress, 'measured')}, {recorder.images} images" if recorder.images else "starting")
    ]
    if planner is None:
        rows.append(("planner", "starting"))
    else:
        text = f"{planner.version} contexts, prefill p50 {_ms(planner.plan_time_p50)}, p99 {_ms(planner.plan_time_p99)}"
        rows.append(("planner", planner.reason.partition(";")[0] or text))
    if executor is None:
        rows.append(("executor", "starting"))
    else:
        text = (
            f"{executor.chunks} chunks, p50 {_ms(executor.chunk_time_p50)}, p99 {_ms(executor.chunk_time_p99)}, "
            f"context age {_ms(executor.context_age)}, phase +{executor.phase_offset} rows"
        )
        rows.append(("executor", executor.reason.partition(";")[0] or text))
    ladder = progress.ladder
    commands = _rate(progress, "commanded")
    if ladder is None:
        rows.append(("safety", commands or "starting"))
    else:
        style = LADDER_STYLE.get(ladder, "red")
        rows.append(("safety", f"[{style}]{ladder.name}[/{style}]  {commands}"))
    for name, code in progress.alive.items():
        if code is not None:
            rows.append((name, f"[red]ended with code {code}[/red]"))
    return rows


def _rate(progress: Progress, which: str) -> str:
    """Return the rate of each joint group's messages, with its name where there are several; "" before the first."""
    groups: dict[str, GrowingSeries] = getattr(progress.recorder, which)
    rates: dict[str, str] = {}
    for name, one in groups.items():
        recent = np.array(one.arrivals[-200:], dtype=np.int64)
        known = len(recent) > 1 and recent[-1] - recent[0] >= RATE_SPAN_NS
        rates[name] = f"{(len(recent) - 1) / ((recent[-1] - recent[0]) * 1e-9):.0f} Hz" if known else "-"
    if all(rate == "-" for rate in rates.values()):
        return ""
    noun = "joint states" if which == "measured" else "commands"
    return f"{noun} " + ", ".join(
        f"{name} {rate}" if len(rates) > 1 else rate for name, rate in rates.items()
    )


def _ms(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1e3:.1f} ms"
