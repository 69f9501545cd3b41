# SPDX-License-Identifier: Apache-2.0
"""Thresholds that decide whether a replay passes."""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wam.core.errors import ConfigError
from wam.core.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit on one metric.

    Attributes:
        metric: flat name of the metric.
        low: least value that passes, or None.
        high: largest value that passes, or None.
    """

    metric: str
    low: float | None
    high: float | None

    def text(self) -> str:
        """Return the limit for people."""
        parts = []
        if self.low is not None:
            parts.append(f"at least {self.low:g}")
        if self.high is not None:
            parts.append(f"at most {self.high:g}")
        return " and ".join(parts)

    def allows(self, value: float) -> bool:
        """Return whether a value lies within the limit."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


class GateSource(enum.Enum):
    """Where the thresholds come from that decide the verdict."""

    DEFAULT = "default"
    FILE = "file"
    NONE = "none"


NO_GATE = "none"
"""In place of a gate's file: nothing is judged."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What decides the verdict of a replay.

    Attributes:
        source: the default gate, a file, or nothing.
        thresholds: those of the file; none otherwise, since the default gate is `wam.evaluation.metrics.default_gate`.
    """

    source: GateSource = GateSource.DEFAULT
    thresholds: tuple[Threshold, ...] = ()

    @classmethod
    def of(cls, thresholds: tuple[Threshold, ...]) -> Gate:
        """Return the gate of a file."""
        return cls(GateSource.FILE, thresholds)


@dataclass(frozen=True, slots=True)
class GateCheck:
    """A threshold with what was measured.

    Attributes:
        threshold: the limit.
        value: measured value.
        passed: whether it lies within the limit; in a file's gate a value that is not a number does not. None, in the
            default gate, where it cannot be told.
    """

    threshold: Threshold
    value: float | None
    passed: bool | None

    @property
    def word(self) -> str:
        """Return the outcome for people."""
        return "cannot be told" if self.passed is None else "pass" if self.passed else "FAIL"


def gate_option(text: str | None) -> Gate:
    """Return the gate that an option `--gate` names: none given takes the default gate, "none" judges nothing.

    A file of the name `none` is read as `./none`.

    Raises:
        ConfigError: the file is missing or illegal; the text names the place.
    """
    if text is None:
        return Gate()
    return Gate(GateSource.NONE) if text == NO_GATE else Gate.of(read_gate(Path(text)))


def read_gate(path: Path) -> tuple[Threshold, ...]:
    """Read a gate: `thresholds: {METRIC: {min: NUMBER, max: NUMBER}}`.

    Raises:
        ConfigError: the file is missing or illegal; the text names the place.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"gate {path} does not exist", where="--gate") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = str(error).splitlines()[0]
        raise ConfigError(f"gate {path} cannot be read ({line})", allowed="YAML", where=str(path)) from error
    return parse_gate(content, source=str(path))


def parse_gate(content: Any, *, source: str) -> tuple[Threshold, ...]:
    """Return the thresholds of a gate that was read from `source`.

    Raises:
        ConfigError: the content is illegal; the text names the place.
    """
    if not isinstance(content, dict) or set(content) != {"thresholds"}:
        keys = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ConfigError(f"{source}: keys", value=keys, allowed="thresholds", where=source)
    entries = content["thresholds"]
    if not isinstance(entries, dict) or not entries:
        raise ConfigError(f"{source}: thresholds", allowed="METRIC: {min: NUMBER, max: NUMBER}", where=source)
    return tuple(_threshold(str(name), entry, source) for name, entry in entries.items())


REFERENCE_SHARE = Threshold("reference_share", 0.9, None)
"""What a gate on errors asks for besides: figures over a fraction of the joints or rows say little."""

_OF_REFERENCE = (
    "action_",
    "first_action",
    "warped",
    "skill",
    "repeat_skill",
    "executed_",
    "commanded_l1",
    "gripper_agr",
)


def complete_gate(thresholds: tuple[Threshold, ...]) -> tuple[Threshold, ...]:
    """Return a gate that, where it judges errors, also asks for a share of the chunks to have been compared."""
    names = [threshold.metric for threshold in thresholds]
    judges_errors = any(name.startswith(_OF_REFERENCE) for name in names)
    return (*thresholds, REFERENCE_SHARE) if judges_errors and "reference_share" not in names else thresholds


def require_known(thresholds: Sequence[Threshold], names: Collection[str], *, where: str) -> None:
    """Require that every threshold names a metric.

    Raises:
        ConfigError: one does not; the text names those that there are.
    """
    for threshold in thresholds:
        if threshold.metric not in names:
            guess = did_you_mean(threshold.metric, names)
            raise ConfigError(
                f"gate: metric {threshold.metric} is unknown{guess}",
                allowed=", ".join(sorted(names)),
                where=where,
            )


def check_gate(
    thresholds: tuple[Threshold, ...], metrics: Mapping[str, float | None]
) -> tuple[GateCheck, ...]:
    """Return every threshold with what was measured.

    Raises:
        ConfigError: a threshold names a metric that this run does not have.
    """
    require_known(thresholds, metrics, where="the gate file")
    checks = []
    for threshold in thresholds:
        value = metrics[threshold.metric]
        checks.append(GateCheck(threshold, value, value is not None and threshold.allows(value)))
    return tuple(checks)


def checks_as_json(checks: Sequence[GateCheck]) -> list[dict[str, str | float | bool | None]]:
    """Return the section `gate` of a summary.json."""
    return [
        {
            "metric": check.threshold.metric,
            "min": check.threshold.low,
            "max": check.threshold.high,
            "value": check.value,
            "passed": check.passed,
        }
        for check in checks
    ]


def _threshold(name: str, entry: Any, source: str) -> Threshold:
    where = f"{source}: thresholds.{name}"
    if not isinstance(entry, dict) or not entry or not set(entry) <= {"min", "max"}:
        raise ConfigError(where, value=str(entry), allowed="min, max or both", where=source)
    limits: dict[str, float] = {}
    for key, value in entry.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigError(f"{where}.{key}", value=str(value), allowed="a finite number", where=source)
        limits[key] = float(value)
    low, high = limits.get("min"), limits.get("max")
    if low is not None and high is not None and low > high:
        raise ConfigError(where, value=f"min {low:g} above max {high:g}", allowed="min <= max", where=source)
    return Threshold(name, low, high)
