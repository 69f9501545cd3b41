# SPDX-License-Identifier: Apache-2.0
"""`--rerun` writes a file for the viewer, and names what is missing before anything is done."""

from __future__ import annotations

import sys
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from viewed_bag import write_bag

from wam.cli.main import run
from wam.core.errors import MissingDependency
from wam.data.fakes import write_fake_bag
from wam.devices.loader import load_robot
from wam.evaluation.replay.rerun import RerunSink, require_rerun
from wam.evaluation.replay.viewer_robot import viewer_urdf
from wam.evaluation.replay.viewer_sink import RobotPose


def arguments(tmp_path: Path) -> list[str]:
    write_fake_bag(tmp_path / "bag", robot=load_robot("g1_inspire"), seconds=1.0)
    options = [
        "--robot",
        "g1_inspire",
        "--policy",
        "fake",
        "--report",
        str(tmp_path / "report"),
        "--gate",
        "none",
    ]
    return ["replay", str(tmp_path / "bag"), *options, "--rerun", str(tmp_path / "out.rrd")]


def test_without_rerun_the_remedy_is_told_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert run(arguments(tmp_path)) == 1
    assert "which is not installed; pip install 'wam_deploy[rerun]'" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
    assert not (tmp_path / "out.rrd").exists()


def test_a_rerun_that_is_too_old_is_told_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.SimpleNamespace(__version__="0.22.1")
    monkeypatch.setitem(sys.modules, "rerun", old)
    with pytest.raises(MissingDependency, match=r"needs rerun-sdk 0\.41 or newer, and 0\.22\.1 is installed"):
        require_rerun()


def read_back(path: Path) -> tuple[dict[str, int], set[str], list[object]]:
    """Return entity -> rows with a time, every component, and the blueprints of a file."""
    from rerun.chunk import RrdReader

    rows: Counter[str] = Counter()
    components: set[str] = set()
    reader = RrdReader(path)
    for chunk in reader.stream().to_chunks():
        rows[chunk.entity_path] += 0 if chunk.is_static else chunk.num_rows
        components |= set(chunk.to_record_batch().schema.names)
    return dict(rows), components, list(reader.blueprints())


def test_with_rerun_the_file_holds_cameras_joints_chunks_rung_events_and_opens_arranged(
    tmp_path: Path,
) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (optional)")
    assert run(arguments(tmp_path)) == 0
    rows, components, blueprints = read_back(tmp_path / "out.rrd")
    assert rows["/cameras/cam_high"] == 30
    assert rows["/joints/kLeftElbow/measured"] == 30
    assert rows["/joints/kLeftElbow/recorded\\ action"] > 10
    assert rows["/joints/kLeftElbow/chunks/0"] > 10
    assert rows["/safety/rung"] >= 2
    assert rows["/events"] >= 1
    assert {"EncodedImage:blob", "Scalars:scalars", "TextLog:text", "TextDocument:text"} <= components
    assert blueprints


def test_with_rerun_both_robots_move_and_the_chunks_are_lines(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (optional)")
    write_bag(tmp_path / "bag", load_robot("franka"), seconds=1.0)
    options = ["--robot", "franka", "--policy", "fake", "--report", str(tmp_path / "report")]
    assert run(["replay", str(tmp_path / "bag"), *options, "--rerun", str(tmp_path / "out.rrd")]) == 0
    rows, components, _ = read_back(tmp_path / "out.rrd")
    assert rows["/recorded/joints/fr3_joint1"] == 30
    assert rows["/commanded/joints/fr3_finger_joint2"] > 10
    assert rows["/chunks\\ in\\ 3D/fr3_hand_tcp"] > 5
    assert "LineStrips3D:strips" in components
    assert "/recorded/fr3/visual_geometries/fr3_link0/visual_0" in rows
    assert not [entity for entity in rows if "collision" in entity]


def test_with_rerun_a_mesh_is_in_the_file(tmp_path: Path) -> None:
    rerun = pytest.importorskip("rerun", reason="rerun-sdk is not installed (optional)")
    corners = "".join(f"vertex {x} {y} 0\n" for x, y in ((0, 0), (1, 0), (0, 1)))
    facet = f"facet normal 0 0 1\nouter loop\n{corners}endloop\nendfacet\n"
    (tmp_path / "a.stl").write_text(f"solid a\n{facet}endsolid a\n")
    urdf = viewer_urdf(
        '<robot name="r"><link name="a"><visual><geometry><mesh filename="a.stl"/></geometry></visual></link></robot>',
        tmp_path,
    )
    sink = RerunSink(rerun, tmp_path / "out.rrd")
    sink.robot(RobotPose("recorded", urdf, {}, np.empty(0, np.int64)))
    sink.close()
    _, components, _ = read_back(tmp_path / "out.rrd")
    assert "Asset3D:blob" in components
