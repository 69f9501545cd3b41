# SPDX-License-Identifier: Apache-2.0
"""Benchmarks with limits: `wam bench NAME`. A new one is a module with `run` and a line in `BENCHES`."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from wam.bench.result import BenchResult
from wam.core.errors import ConfigError

Announce = Callable[[str], None]
"""Called with a short text whenever a bench begins a longer step."""

BENCHES: dict[str, str] = {
    "chunk": "wam.bench.chunk:run",
    "context": "wam.bench.context:run",
    "seams": "wam.bench.seams:run",
    "attack": "wam.bench.attack.campaign:run",
    "command": "wam.bench.command:run",
    "decode": "wam.bench.decode:run",
    "collision": "wam.bench.collision:run",
    "loop": "wam.bench.loop:run",
    "sim": "wam.bench.sim:run",
    "replay": "wam.bench.replay:run",
    "fuzz": "wam.bench.fuzz:run",
}
"""Name -> module and function; the function takes a `Announce` and its options by name."""


def load_bench(name: str) -> Callable[..., BenchResult]:
    """Return the bench called `name`; its module is imported only now.

    Raises:
        ConfigError: there is no bench of that name.
    """
    target = BENCHES.get(name)
    if target is None:
        raise ConfigError("bench", value=name, allowed=", ".join(sorted(BENCHES)), where="wam bench NAME")
    module, _, function = target.partition(":")
    loaded: Callable[..., BenchResult] = getattr(importlib.import_module(module), function)
    return loaded
