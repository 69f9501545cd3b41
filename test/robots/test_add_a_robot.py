# SPDX-License-Identifier: Apache-2.0
"""The how-to's robot file is a real one, and the recorded robot's file fits its recording."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wam.robots.joint_reader import JointReader
from wam.robots.kinematics import RobotModel
from wam.robots.loader import load_robot

ROOT = Path(__file__).resolve().parents[2]


def test_the_robot_file_in_the_how_to_loads_and_fits_its_model(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "add-a-robot.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    file = tmp_path / "desk.yaml"
    file.write_text(text, encoding="utf-8")
    robot = load_robot(file)
    model = RobotModel(robot)
    assert [joint.name for joint in model.chain("link6")] == [f"joint{i}" for i in range(1, 7)]
    home = np.array([joint.home for joint in robot.joints])
    assert model.pose("link6", home)[2, 3] > 0.1


@pytest.mark.recorded
def test_the_recorded_robots_file_fits_every_row_of_its_recording() -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    folder = Path(os.environ.get("WAM_TEST_DATA") or ROOT.parent / "shared" / "data") / "g1_inspire_lerobot"
    info = json.loads((folder / "meta" / "info.json").read_text())
    (group,) = load_robot("g1_inspire").groups
    assert list(group.driver_names) == info["features"]["observation.state"]["names"][0]
    camera = load_robot("g1_inspire").cameras[0]
    assert [camera.height, camera.width, 3] == info["features"]["observation.images.cam_high"]["shape"]
    reader, rows = JointReader(group), 0
    for episode in sorted(folder.glob("data/*/*.parquet")):
        for state in parquet.read_table(episode)["observation.state"].to_pylist():
            positions, _ = reader.read(SimpleNamespace(name=group.driver_names, position=state, velocity=[]))
            np.testing.assert_allclose(positions, state)
            rows += 1
    assert rows > 100
