# SPDX-License-Identifier: Apache-2.0
"""The table of metrics: one row is enough for a new one, and every row is computed once per report."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from wam.cli.main import run
from wam.data.fakes import write_fake_bag
from wam.devices.loader import load_robot
from wam.evaluation import reference
from wam.evaluation.closed_loop import table as episodes_table
from wam.evaluation.metrics import basis, motion_rows, rows, table
from wam.evaluation.metrics.basis import ReplayBasis
from wam.evaluation.metrics.metric import Metric, Shown, measure
from wam.report.statistics import Interval, bootstrap_mean

EVERYWHERE = Shown.PAGE | Shown.TERMINAL | Shown.VARIANTS | Shown.RUNS


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "bag"
    write_fake_bag(path, robot=load_robot("g1_inspire"), seconds=1.0)
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Add one row to the table and nothing anywhere else; return how often it was computed."""
    counted: Counter[str] = Counter()

    def value(data: ReplayBasis) -> float:
        counted["value"] += 1
        return 0.8125

    def interval(data: ReplayBasis) -> Interval:
        counted["interval"] += 1
        return Interval(0.8125, 0.75, 0.875, 4)

    row = Metric(
        "grace",
        "gracefulness of the motion",
        "1",
        value,
        interval,
        shown=EVERYWHERE,
        meaning="how graceful the motion is",
        compared="last_l1",
    )
    monkeypatch.setattr(table, "METRICS", (*table.METRICS, row))
    return counted


def replay(bag: Path, report: Path, *options: str) -> int:
    arguments = ["--robot", "g1_inspire", "--policy", "fake", "--report", str(report), *options]
    judged = () if "--gate" in options else ("--gate", "none")
    return run(["replay", str(bag), *arguments, *judged])


def test_a_row_is_all_that_a_new_metric_needs(
    tmp_path: Path, bag: Path, calls: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    gate = tmp_path / "gate.yaml"
    gate.write_text("thresholds: {grace: {min: 0.9}}")
    assert replay(bag, tmp_path / "r", "--gate", str(gate)) == 2
    shown = capsys.readouterr().out
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    page = (tmp_path / "r" / "index.html").read_text()
    assert summary["metrics"]["grace"] == 0.8125
    assert summary["intervals"]["grace"] == {"value": 0.8125, "low": 0.75, "high": 0.875, "count": 4}
    assert summary["gate"][0] == {
        "metric": "grace",
        "min": 0.9,
        "max": None,
        "value": 0.8125,
        "passed": False,
    }
    assert "gracefulness of the motion" in page
    assert "0.750 to 0.875" in page
    assert "grace is 0.812, allowed at least 0.9" in page
    assert "grace" in shown
    assert "0.8125" in shown
    assert "| `grace` | 1 | 95 % | how graceful the motion is |" in reference.markdown(table.METRICS)


def test_a_new_row_is_compared_and_stands_in_a_scenario(
    tmp_path: Path, bag: Path, calls: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        assert replay(bag, tmp_path / name) == 0
    capsys.readouterr()
    assert run(["replay", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metrics"]["grace"] == [0.8125, 0.8125]
    assert result["differences"]["last_l1"]["first"] is None  # these reports know no such error of a chunk
    lab = bag.parent / "lab.yaml"
    lab.write_text("{robot: g1_inspire, policy: fake, recordings: [bag], gate: none}")
    assert run(["replay", "scenario", str(lab), "--report", str(tmp_path / "s")]) == 0
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert summary["variants"]["all"]["metrics"]["grace"]["value"] == 0.8125
    assert (tmp_path / "s" / "index.html").read_text().count("grace") == 2


def test_values_and_intervals_are_computed_once_per_report(
    tmp_path: Path, bag: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Summary, page and gate each drew 2000 bootstrap samples of the same errors."""
    drawn: list[int] = []

    def counting(*arguments: object, **options: object) -> Interval:
        drawn.append(1)
        return bootstrap_mean(*arguments, **options)  # type: ignore[arg-type]

    for module in (basis, motion_rows):
        monkeypatch.setattr(module, "bootstrap_mean", counting)
    gate = tmp_path / "gate.yaml"
    gate.write_text("thresholds: {grace: {max: 0.9}, action_l1: {max: 100}}")
    assert replay(bag, tmp_path / "r", "--gate", str(gate)) == 0
    assert calls == {"value": 1, "interval": 1}
    intervals = json.loads((tmp_path / "r" / "summary.json").read_text())["intervals"]
    rates = {row.name for row in table.METRICS if row.unit == "1" and row.name.endswith(("rate", "coverage"))}
    assert len(drawn) == len(set(intervals) - rates - {"grace"})


def test_two_rows_of_one_name_are_a_fault() -> None:
    row = Metric("same", "", "", lambda subject: 1.0)
    with pytest.raises(ValueError, match="two metrics are called same"):
        measure((row, row), None)


def test_a_value_that_the_run_does_not_give_is_none_and_a_row_without_gate_is_in_no_gate() -> None:
    table_of_two = (
        Metric("unknown", "", "", lambda subject: float("nan")),
        Metric("aside", "", "", lambda subject: 2.0, gate=False),
    )
    measured = measure(table_of_two, None)
    assert measured.values == {"unknown": None, "aside": 2.0}
    assert measured.metrics == {"unknown": None}
    assert measured.intervals == {}


@pytest.mark.parametrize("place", reference.pages(), ids=lambda place: f"{place[0].name} {place[1]}")
def test_the_reference_is_that_of_the_table(place: tuple[Path, str]) -> None:
    path, name = place
    text = path.read_text(encoding="utf-8")
    fresh = reference.insert(text, reference.pages()[place], page=path.name, name=name)
    assert text == fresh, f"{path}: run python -m wam.evaluation.reference"


def test_every_metric_has_a_title_and_names_are_unique() -> None:
    for metrics in (table.METRICS, episodes_table.SCORES + episodes_table.TIMES):
        names = [row.name for row in metrics]
        assert len(set(names)) == len(names)
        assert all(row.title for row in metrics)


def test_a_maker_of_rows_gives_its_percentiles_distinct_names() -> None:
    made = rows.spread("age_{}_s", "age", "s", lambda data: [])
    assert [row.name for row in made] == ["age_p50_s", "age_p99_s", "age_p99_9_s", "age_max_s"]
