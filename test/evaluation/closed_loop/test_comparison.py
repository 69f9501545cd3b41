# SPDX-License-Identifier: Apache-2.0
"""A comparison of policies: its file, its pairs, and rows that are played once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import yaml

from wam.cli.main import EXIT_COULD_NOT_RUN, EXIT_OK, run
from wam.core.chunk.splice import Strategy
from wam.core.errors import ConfigError
from wam.evaluation.closed_loop.comparison import comparison_as_markdown, options_of, pair, row_key
from wam.evaluation.closed_loop.comparison_file import read_comparison, schema_text

TASK = "franka_box_to_bowl"

ROOT = Path(__file__).resolve().parents[3]


def write(folder: Path, **changes: Any) -> Path:
    table = {
        "task": TASK,
        "seeds": {"first": 5, "count": 2},
        "time_limit": 0.3,
        "against": "standing",
        "rows": {"expert": {"policy": "expert"}, "standing": {"policy": "still"}},
        **changes,
    }
    path = folder / "comparison.yaml"
    path.write_text(yaml.safe_dump({"tables": [table]}, sort_keys=False), encoding="utf-8")
    return path


def summary(successes: str) -> dict[str, Any]:
    return {
        "episodes": [
            {"seed": seed, "success": letter == "x", "score": 3 if letter == "x" else 1}
            for seed, letter in enumerate(successes)
        ]
    }


def test_rows_are_paired_by_seed() -> None:
    found = pair(summary("xxxxxx.."), summary(".....x.x"))
    assert (found.won, found.lost) == (5, 1)
    assert found.success.value == 0.5
    assert found.success.low < 0.5 < found.success.high
    assert found.score.value == 1.0
    assert found.p == pytest.approx(2 * (1 + 6) / 64)


def test_seeds_that_one_row_lacks_are_left_out_of_the_pairs() -> None:
    found = pair(summary("xx"), summary("x"))
    assert (found.won, found.lost, found.success.count, found.p) == (0, 0, 1, 1.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "fly"}, "no task of this name: got 'fly'"),
        ({"seeds": {"first": 3}}, r"tables\[0\].seeds: got {'first': 3}"),
        ({"colour": "red"}, r"tables\[0\]: got \['colour'\]; allowed: a mapping of task, "),
        ({"qualty": "fast"}, r"tables\[0\]: got \['qualty'\], did you mean 'quality'\?; allowed: a mapping"),
        ({"quality": "nice"}, r"tables\[0\].quality: got 'nice'; allowed: "),
        ({"executor_latency": -1}, r"tables\[0\].executor_latency: got -1; allowed: 0 .. 3600 s"),
        ({"rows": {}}, r"tables\[0\].rows: got {}"),
        ({"rows": {"a": {"bundle": "b"}}}, r"tables\[0\].rows\['a'\]: got \['bundle'\]"),
        ({"against": "blind"}, r"tables\[0\].against: got 'blind'; allowed: expert, standing"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_its_place(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_comparison(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("tables: []", r"tables: got \[\]; allowed: a list of tables"),
        ("[1]", r"comparison.yaml: got \[1\]; allowed: a mapping of tables"),
        ("", r"comparison.yaml is empty; allowed: a mapping of tables"),
        ("rows: {}", r"comparison.yaml: got \['rows'\]; allowed: a mapping of tables"),
        ("tables: [{task: a, seeds: {count: 1}}]", r"tables\[0\].rows is missing; allowed: label: "),
        ("tables: [{task: 3, seeds: {count: 1}, rows: {a: {policy: b}}}]", r"tables\[0\].task: got 3"),
        ("tables: [3]", r"tables\[0\]: got 3; allowed: a mapping of task, setting"),
        (
            "tables: [{task: a, seeds: {count: 1}, rows: {a: {policy: '', any_task: 1}}}]",
            r"tables\[0\].rows\['a'\].policy: got ''; allowed: a bundle's directory or a name",
        ),
        (
            "tables: [{task: a, seeds: {count: true}, rows: {a: {policy: b}}}]",
            r"tables\[0\].seeds.count: got True; allowed: 1 or more",
        ),
        ("a: [", r"comparison.yaml cannot be read \(while parsing"),
    ],
)
def test_a_file_of_another_form_is_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "comparison.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_comparison(path)


def test_the_published_schema_is_current_and_takes_the_files_that_ship(tmp_path: Path) -> None:
    published = ROOT / "docs" / "reference" / "comparison-file.schema.json"
    assert published.read_text(encoding="utf-8") == schema_text()
    check = fastjsonschema.compile(json.loads(schema_text()))
    for file in sorted((ROOT / "config" / "evaluation").glob("*.yaml")):
        check(yaml.safe_load(file.read_text(encoding="utf-8")))
        assert read_comparison(file)
    for changes in ({"quality": "nice"}, {"colour": "red"}, {"executor_latency": -1}, {"rows": {}}):
        with pytest.raises(fastjsonschema.JsonSchemaException):
            check(yaml.safe_load(write(tmp_path, **changes).read_text(encoding="utf-8")))


def test_a_row_has_its_own_schedule_where_it_says_so_and_else_that_of_the_table(tmp_path: Path) -> None:
    rows = {
        "usual": {"policy": "still"},
        "slow": {"policy": "still", "executor_latency": 0.3, "executor_period": 0.4, "strategy": "latest"},
    }
    (table,) = read_comparison(write(tmp_path, rows=rows, against="usual", executor_latency=0.2))
    usual, slow = (options_of(table.options, row).schedule for row in table.rows.values())
    assert usual == table.options.schedule
    assert (slow.executor_latency_ns, slow.executor_period_ns) == (300_000_000, 400_000_000)
    assert slow.strategy is Strategy.LATEST
    assert slow.planner_latency_ns == usual.planner_latency_ns
    row = table.rows["slow"]
    nearly = row.model_copy(update={"executor_latency": 0.3004})
    keys = [row_key(options_of(table.options, one), one) for one in (table.rows["usual"], row, nearly)]
    assert keys[0] != keys[1] != keys[2], "a row that is kept is that of its own schedule"


def test_a_table_has_the_title_that_the_file_gives_it(tmp_path: Path) -> None:
    (named,) = read_comparison(write(tmp_path, title="Two steps against ten"))
    (plain,) = read_comparison(write(tmp_path))
    assert named.title == "Two steps against ten"
    assert plain.title == f"`{TASK}`, seen"


def test_a_table_says_what_difference_its_seeds_can_show() -> None:
    """Six pairs that all differ one way are the fewest that a two-sided sign test at 5 % shows."""
    shown = comparison_as_markdown([markdown_table(20)])
    assert "In 4 of 5 comparisons these seeds show a difference of 0.37" in shown
    assert "So few seeds show no difference at all." in comparison_as_markdown([markdown_table(5)])


def markdown_table(count: int) -> dict[str, Any]:
    return {
        "title": "t",
        "task": TASK,
        "setting": "seen",
        "seeds": [0, count],
        "images": "fast",
        "against": "a",
        "rows": [],
    }


def test_a_bundle_beside_the_file_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (table,) = read_comparison(write(tmp_path, rows={"it": {"policy": "bundle"}}, against="it"))
    assert table.rows["it"].policy == str(tmp_path / "bundle")


@pytest.mark.sim
def test_a_row_is_played_once_and_again_when_its_settings_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- policies: begin -->\nold\n<!-- policies: end -->\nafter\n", encoding="utf-8"
    )
    words = ["eval", "compare", str(write(tmp_path)), "--out", str(tmp_path / "out"), "--page", str(page)]
    assert run(words) == EXIT_OK
    first = capsys.readouterr()
    assert "expert\n  [1/2] seed 5: no success, score 0, 0.3 s; the robot moved (" in first.err
    assert f"{TASK}: standing" in first.err
    table = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))["tables"][0]
    assert [row["label"] for row in table["rows"]] == ["expert", "standing"]
    assert table["rows"][0]["against"]["p"] == 1.0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert (
        "| expert | 0/2 | 0.00 .. 0.66 | 0.00 (0.00 .. 0.00) | - | - | +0.00 (+0.00 .. +0.00), p = 1.000 |"
        in text
    )
    assert comparison_as_markdown([table]) in text
    assert run(words) == EXIT_OK
    again = capsys.readouterr()
    assert again.err == ""
    assert again.out == first.out
    write(tmp_path, time_limit=0.2)
    assert run(words) == EXIT_OK
    assert f"{TASK}: expert" in capsys.readouterr().err


def test_a_page_without_a_place_for_the_table_is_refused_before_anything_is_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing", encoding="utf-8")
    words = ["eval", "compare", str(write(tmp_path)), "--out", str(tmp_path / "out"), "--page", str(page)]
    assert run(words) == EXIT_COULD_NOT_RUN
    assert "page.md has no place for policies" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
