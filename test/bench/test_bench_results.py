# SPDX-License-Identifier: Apache-2.0
"""The form of every bench: results, bars, machine, exit code. No measured time is judged here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from wam import bench as benches
from wam.bench import load_bench
from wam.bench.result import Bar, BenchResult, percentiles
from wam.cli.bench import bench
from wam.core.errors import ConfigError


@pytest.fixture
def command() -> Callable[..., object]:
    """Function that runs `wam bench` with arguments."""
    app = typer.Typer()
    app.command()(bench)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture
def canned(monkeypatch):
    """Function that replaces the benches by one called "canned"."""

    def replace(results: dict[str, float], bars: dict[str, Bar], notes: tuple[str, ...] = ()) -> None:
        monkeypatch.setattr(benches, "BENCHES", {"canned": "unused:run"})
        measured = BenchResult(results, bars, notes)
        monkeypatch.setattr("wam.cli.bench.load_bench", lambda name: lambda stage: measured)

    return replace


@pytest.mark.parametrize(
    ("bar", "value", "ok"),
    [
        (Bar(5.0), 5.0, True),
        (Bar(5.0), 5.1, False),
        (Bar(5.0, "min"), 5.0, True),
        (Bar(5.0, "min"), 4.9, False),
        (Bar(5.0), None, False),
        (Bar(5.0), math.nan, False),
        (Bar(5.0, "min"), math.nan, False),
    ],
)
def test_a_bar_is_kept_only_by_a_measured_value(bar: Any, value: Any, ok: Any) -> None:
    assert bar.ok(value) is ok


def test_percentiles_carry_unit_and_quantile_in_their_names() -> None:
    assert percentiles("x", "ms", [1.0, 2.0, 3.0]) == {"x_p50_ms": 2.0, "x_p99_ms": 2.98}


def test_json_holds_results_bars_and_machine(command: Any, canned: Any) -> None:
    canned({"a_ms": 1.0, "b_ms": 2.0}, {"a_ms": Bar(3.0)})
    done = command("canned", "--json")
    assert done.exit_code == 0
    printed = json.loads(done.stdout)
    assert set(printed) == {"results", "bars", "machine"}
    assert printed["results"] == {"a_ms": 1.0, "b_ms": 2.0}
    assert printed["bars"] == {"a_ms": {"limit": 3.0, "kind": "max", "ok": True}}
    assert {"cpu", "cores", "load_1min", "versions"} <= set(printed["machine"])


@pytest.mark.parametrize("arguments", [("canned",), ("canned", "--json")])
def test_a_missed_bar_ends_with_1(command: Any, canned: Any, arguments: Any) -> None:
    canned({"a_ms": 4.0}, {"a_ms": Bar(3.0)})
    assert command(*arguments).exit_code == 1


def test_a_metric_that_was_not_measured_misses_its_bar_and_is_shown(command: Any, canned: Any) -> None:
    canned({}, {"a_ms": Bar(3.0)}, notes=("no ROS here",))
    done = command("canned")
    assert done.exit_code == 1
    assert "not measured" in done.output
    assert "no ROS here" in done.output


def test_an_unknown_bench_names_those_that_exist(command: Any) -> None:
    done = command("speed")
    assert done.exit_code == 2
    assert "context" in done.output
    with pytest.raises(ConfigError, match="context"):
        load_bench("speed")


@pytest.mark.parametrize("name", sorted(benches.BENCHES))
def test_every_registered_bench_can_be_loaded(name: Any) -> None:
    assert callable(load_bench(name))
