# SPDX-License-Identifier: Apache-2.0
"""`wam bench fuzz` on a few thousand messages: nothing leaves the guard, and every type is both taken and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
pytest.importorskip("wam_msgs.msg", reason="wam_msgs is not built (make setup)")

from wam.bench.fuzz import run
from wam.bench.fuzz_targets import TARGETS
from wam.core.errors import ConfigError

pytestmark = pytest.mark.ros


def test_no_mutated_message_of_any_type_leaves_the_guard() -> None:
    measured = run(lambda text: None, cases=6_000, seed=20_261_129)
    assert measured.results["fuzz_escapes"] == 0, measured.notes
    assert measured.results["fuzz_unforeseen"] == 0, measured.notes
    for name in TARGETS:
        assert measured.results[f"fuzz_{name}_accepted"] > 0
        assert measured.results[f"fuzz_{name}_refused"] > 0


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_called_by_its_type(name: str) -> None:
    assert TARGETS[name]("0").name == name


def test_a_campaign_that_is_taken_up_again_counts_what_one_in_one_go_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wam.bench.fuzz.BATCH", 20)
    file = tmp_path / "fuzz.jsonl"
    whole = run(lambda text: None, per_type=60, seed=3, resume=file)
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3 * len(TARGETS)
    file.write_bytes(b"".join(lines[:10]) + lines[10][:50])
    told: list[str] = []
    again = run(told.append, per_type=60, seed=3, resume=file)
    assert len(told) == len(lines) - 10
    counted = [key for key in whole.results if not key.endswith(("_per_s", "_mb"))]
    assert whole.results["fuzz_cases"] == 60 * len(TARGETS)
    assert [again.results[key] for key in counted] == [whole.results[key] for key in counted]
    with pytest.raises(ConfigError, match="seed"):
        run(told.append, per_type=60, seed=4, resume=file)


def test_a_store_that_fails_in_a_way_nobody_foresaw_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the campaign could not fail: the guard takes every exception."""

    def fail(*_: object, **__: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr("wam.bench.fuzz_targets.check_chunk_size", fail)
    measured = run(lambda text: None, cases=800, seed=1)
    assert measured.results["fuzz_unforeseen"] > 0
    assert any("KeyError" in note for note in measured.notes)
    assert not measured.ok
