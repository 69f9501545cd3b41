# SPDX-License-Identifier: Apache-2.0
"""Finished parts of a campaign count again in the same campaign, and in no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from wam.bench.ledger import fingerprint, open_ledger
from wam.bench.progress import RunsLeft
from wam.core.errors import ConfigError

CAMPAIGN: dict[str, str | int] = {"robot": "piper", "seed": 3}


def written(path: Path) -> Path:
    with open_ledger(path, CAMPAIGN) as ledger:
        ledger.add("walls 0 9", {"runs": 9, "travel": 0.1 + 0.2})
        ledger.add("walls 9 9", {"runs": 9, "travel": 1.5})
    return path


def test_finished_parts_are_there_again_to_the_last_bit(tmp_path: Path) -> None:
    with open_ledger(written(tmp_path / "a"), CAMPAIGN) as ledger:
        assert ledger.done == {
            "walls 0 9": {"runs": 9, "travel": 0.1 + 0.2},
            "walls 9 9": {"runs": 9, "travel": 1.5},
        }


def test_a_torn_last_line_is_dropped_and_the_file_goes_on_behind_the_whole_ones(tmp_path: Path) -> None:
    path = written(tmp_path / "a")
    path.write_bytes(path.read_bytes()[:-7])
    with open_ledger(path, CAMPAIGN) as ledger:
        assert list(ledger.done) == ["walls 0 9"]
        ledger.add("walls 18 9", {"runs": 9})
    with open_ledger(path, CAMPAIGN) as ledger:
        assert list(ledger.done) == ["walls 0 9", "walls 18 9"]


def test_a_line_of_another_campaign_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = written(tmp_path / "a")
    before = path.read_bytes()
    with (
        pytest.raises(ConfigError, match=r"another campaign \(seed\).*seed 3.*seed 4.*line 1"),
        open_ledger(path, CAMPAIGN | {"seed": 4}),
    ):
        pass
    assert path.read_bytes() == before


def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("not a campaign\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a line of a campaign"), open_ledger(path, CAMPAIGN):
        pass
    assert path.read_text(encoding="utf-8") == "not a campaign\n"


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with (
        open_ledger(path, CAMPAIGN),
        pytest.raises(ConfigError, match="another run writes"),
        open_ledger(path, CAMPAIGN),
    ):
        pass


def test_a_file_in_no_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"), open_ledger(tmp_path / "nowhere" / "a", CAMPAIGN):
        pass


def test_a_fingerprint_changes_with_any_byte_of_the_code(tmp_path: Path) -> None:
    (tmp_path / "code" / "deep").mkdir(parents=True)
    file = tmp_path / "code" / "deep" / "a.py"
    file.write_text("a = 1\n", encoding="utf-8")
    before = fingerprint([tmp_path / "code"])
    assert fingerprint([tmp_path / "code"]) == before
    file.write_text("a = 2\n", encoding="utf-8")
    assert fingerprint([tmp_path / "code"]) != before


def test_the_time_left_follows_from_what_each_kind_took() -> None:
    now = [0.0]
    progress = RunsLeft({"walls": 100, "streams": 10, "geometry": 0}, 2, clock=lambda: now[0])
    progress.had("walls", 50, 10.0)
    assert progress.left() is None
    now[0] = 6.0
    progress.ran("streams", 4, 12.0)
    # 50 walls of 0.2 s and 6 streams of 3 s are 28 s of work, at 12 s of work in 6 s of wall time.
    assert progress.left() == pytest.approx(14.0)
    assert progress.text() == "50 of 100 walls, 4 of 10 streams, 0 min left"
