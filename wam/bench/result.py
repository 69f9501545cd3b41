# SPDX-License-Identifier: Apache-2.0
"""The result of a bench, with the machine it ran on."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from wam.report.machine import machine_info

PACKAGES = ("numpy", "torch", "ros-rclpy", "mujoco")
"""Distributions whose version is reported with every measurement."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit that a metric must keep.

    Attributes:
        limit: in the unit of the metric's name.
        kind: "max" where smaller is better, "min" where larger is.
    """

    limit: float
    kind: Literal["max", "min"] = "max"

    def ok(self, value: float | None) -> bool:
        """Return whether `value` keeps the limit; a metric that was not measured or is NaN does not."""
        if value is None or math.isnan(value):
            return False
        return value <= self.limit if self.kind == "max" else value >= self.limit


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Result of one bench.

    Attributes:
        results: metric name, with its unit as suffix -> number.
        bars: metric name -> limit.
        notes: remarks on the results (what was not measured, and why).
    """

    results: Mapping[str, float]
    bars: Mapping[str, Bar]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether every limit is met."""
        return all(bar.ok(self.results.get(name)) for name, bar in self.bars.items())

    def as_json(self) -> dict[str, Any]:
        """Return the object that `wam bench --json` prints."""
        return {
            "results": dict(self.results),
            "bars": {
                name: {"limit": bar.limit, "kind": bar.kind, "ok": bar.ok(self.results.get(name))}
                for name, bar in self.bars.items()
            },
            "machine": _machine(),
        }


def percentiles(name: str, unit: str, values: Sequence[float]) -> dict[str, float]:
    """Return NAME_p50_UNIT and NAME_p99_UNIT of `values`, already in that unit."""
    return {f"{name}_p{q}_{unit}": round(float(np.percentile(values, q)), 4) for q in (50, 99)}


def _machine() -> dict[str, Any]:
    """Return CPU, cores, load and versions."""
    info = machine_info()
    return {
        "cpu": info["cpu"],
        "cores": os.cpu_count(),
        "usable_cores": info["cores"],
        "load_1min": info["load_1min"],
        "kernel": platform.release(),
        "python": info["python"],
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
