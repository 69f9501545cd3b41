# SPDX-License-Identifier: Apache-2.0
"""Whether MuJoCo's viewer can open its window here: asked before anything is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wam.cli.checks import probe
from wam.sim.gl import has_display, refusal_of_window

Probe = Callable[[str, Mapping[str, str]], tuple[dict[str, Any] | None, str]]


def require_window(environment: Mapping[str, str], *, ask: Probe = probe) -> None:
    """Open an invisible window in a process of its own, which a broken driver may take with it.

    Args:
        environment: names the display.
        ask: runs a probe of `wam.cli.probes`.

    Raises:
        MachineFault: there is no display, or no window opens on it; the text says what helps.
    """
    if not has_display(environment):
        raise refusal_of_window("", environment)
    answer, reason = ask("window", environment)
    if answer is None:
        raise refusal_of_window(reason, environment)
