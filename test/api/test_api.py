# SPDX-License-Identifier: Apache-2.0
"""The Python interface gives what the commands give; the example notebook runs on a generated bag."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from wam import api
from wam.core.errors import RecordingError
from wam.data.fakes import write_fake_bag
from wam.devices.loader import load_robot

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "replay_report.ipynb"


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "bag"
    write_fake_bag(path, robot=load_robot("g1_inspire"), seconds=1.5)
    return path


def test_a_replay_gives_metrics_arrays_and_tables(tmp_path: Path, bag: Path) -> None:
    gate = tmp_path / "gate.yaml"
    gate.write_text("thresholds: {coverage: {min: 0.1}}", encoding="utf-8")
    report = api.replay(bag, robot="g1_inspire", policy="fake", report=tmp_path / "r", gate=gate)
    assert (report.verdict, report.metrics["coverage"]) == ("pass", 1.0)
    frames = report.frames()
    assert frames.recorded.shape == frames.executed.shape == frames.commanded.shape
    assert frames.recorded.shape == (len(frames.time_s), len(frames.joints))
    assert (len(frames.joints), set(frames.units), len(frames.rung)) == (
        26,
        {"rad", "1"},
        len(frames.time_ns),
    )
    mean = float(np.nanmean([np.nanmean(np.abs(error)) for error in frames.error.values()]))
    assert mean == pytest.approx(report.metrics["executed_l1"], rel=1e-4)
    assert report.motion().num_rows == frames.recorded.size
    assert report.chunks().num_rows > 0
    assert "**pass**" in report.markdown()
    report.write_junit(tmp_path / "a.xml")
    assert (tmp_path / "a.xml").is_file()
    assert api.open_report(tmp_path / "r").summary == report.summary


def test_recordings_are_opened_surveyed_and_checked(tmp_path: Path, bag: Path) -> None:
    with api.open_recording(bag) as recording:
        names = {topic.name for topic in recording.topics}
        assert sum(1 for _ in recording.messages(names)) == recording.message_count
    assert {topic.name for topic in api.survey(bag).topics} == names
    assert api.check(bag, robot="g1_inspire").passed
    for call in (api.open_recording, api.survey, api.check, api.open_report):
        with pytest.raises(RecordingError):
            call(tmp_path / "nothing")


def test_the_example_notebook_runs_from_top_to_bottom(
    tmp_path: Path, bag: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(code), encoding="utf-8")
    for name, value in (
        ("WAM_BAG", bag),
        ("WAM_ROBOT", "g1_inspire"),
        ("WAM_POLICY", "fake"),
        ("WAM_REPORT", tmp_path / "report"),
        ("MPLBACKEND", "agg"),
    ):
        monkeypatch.setenv(name, str(value))
    runpy.run_path(str(script))
    told = capsys.readouterr().out
    assert ("on average, the most at" in told, "action_l1" in told) == (True, True)
    assert (tmp_path / "report" / "index.html").is_file()


def test_the_example_notebook_is_stored_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert NOTEBOOK.stat().st_size < 20_000
