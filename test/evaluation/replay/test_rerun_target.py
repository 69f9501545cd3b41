# SPDX-License-Identifier: Apache-2.0
"""What `--rerun` may name is looked at before anything starts, and no file of another kind is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from wam.cli.main import EXIT_COULD_NOT_RUN, run
from wam.core.errors import ConfigError, RecordingError
from wam.evaluation.replay.rerun import parse_target, prepare_rrd


@pytest.mark.parametrize("word", ["live", "rerun+http://desk:9876/proxy", "rerun://desk/proxy"])
def test_a_viewer_is_no_file(word: str) -> None:
    assert parse_target(word) == word


def test_a_name_that_ends_in_rrd_is_a_file() -> None:
    assert parse_target("out/demo.rrd") == Path("out/demo.rrd")


@pytest.mark.parametrize("word", ["notes.txt", "LIVE", "http://desk:9876", "demo", ""])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"allowed: a file that ends in \.rrd, live, or") as caught:
        parse_target(word)
    assert ("did you mean 'live'?" in str(caught.value)) == (word == "LIVE")


def test_an_older_file_goes_and_no_empty_one_stays(tmp_path: Path) -> None:
    """Where the viewer failed, a file of 0 bytes was left."""
    path = tmp_path / "new" / "demo.rrd"
    prepare_rrd(path)
    assert path.parent.is_dir()
    path.write_bytes(b"an older recording")
    prepare_rrd(path)
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_told_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="cannot be written"):
        prepare_rrd(tmp_path / "file" / "demo.rrd")


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("kept")
    with pytest.raises(ConfigError, match=r"ends in \.rrd"):
        prepare_rrd(notes)
    assert notes.read_text() == "kept"


@pytest.mark.parametrize("verb", ["demo", "replay"])
def test_both_verbs_refuse_it_before_they_begin(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--rerun notes.txt` removed the notes."""
    notes, report = tmp_path / "notes.txt", tmp_path / "report"
    notes.write_text("kept")
    words = {"demo": ["piper"], "replay": [str(tmp_path), "--robot", "piper", "--policy", "fake"]}
    arguments = [verb, *words[verb], "--report", str(report), "--rerun", str(notes)]
    assert run(arguments) == EXIT_COULD_NOT_RUN
    assert "a file that ends in .rrd" in capsys.readouterr().err
    assert notes.read_text() == "kept"
    assert not report.exists()
