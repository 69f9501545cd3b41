# SPDX-License-Identifier: Apache-2.0
"""Zones of a robot file: what is read, what is refused with its place, and where they hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wam.core.errors import ConfigError
from wam.core.safety.filters import ChainStage
from wam.core.trajectory.motion import Motion
from wam.core.verdict import Finding, Verdict
from wam.devices.loader import load_robot
from wam.robots.describe import describe
from wam.robots.loader import find_robot
from wam.robots.paths import urdf_dir
from wam.robots.zone_file import PointPart, ZoneSpec
from wam.runtime.safety.filters import (
    ChainOptions,
    FilterInputs,
    build_chain,
    build_measured_check,
    build_speed_limits,
)

TEXT = find_robot("piper").read_text(encoding="utf-8")
STOP = "{name: cage, kind: stop, target: all, lower: [0.1, -2, 0.4], upper: [2, 2, {value: 1500, unit: mm}]}"
SLOW = (
    "{name: operator, kind: slow, speed: 0.1, target: left, points: [tip, elbow], "
    "lower: [-1, -1, -1], upper: [1, 1, 1]}"
)
FIRST = len(TEXT.splitlines()) + 2


def written(folder: Path, *zones: str) -> Path:
    text = re.sub(r"(urdf|srdf): urdf/", rf"\1: {urdf_dir()}/", TEXT)
    file = folder / "mine.yaml"
    file.write_text(
        "\n".join((text.rstrip(), "", "zones:", *(f"  - {zone}" for zone in zones))), encoding="utf-8"
    )
    return file


def test_zones_are_read_in_si_units_and_shown(tmp_path: Path) -> None:
    robot = load_robot(written(tmp_path, STOP, SLOW))
    assert robot.zones == (
        ZoneSpec("cage", "all", (0.1, -2.0, 0.4), (2.0, 2.0, 1.5)),
        ZoneSpec(
            "operator",
            "left",
            (-1.0, -1.0, -1.0),
            (1.0, 1.0, 1.0),
            0.1,
            (PointPart.TIP, PointPart.ELBOW),
        ),
    )
    assert load_robot("piper").zones == ()
    shown = describe(robot)["zones"]
    assert [(one["name"], one["kind"], one["speed"]) for one in shown] == [
        ("cage", "stop", None),
        ("operator", "slow", 0.1),
    ]
    assert shown[1]["points"] == ["tip", "elbow"]


FAULTS = [
    (("kind: stop", "kind: halt"), "kind", "allowed: stop, slow"),
    (("kind: stop", "kind: slow"), "", "lacks speed"),
    (("kind: stop", "kind: stop, speed: 0.1"), "speed", "belongs to a slow zone"),
    (("kind: stop", "kind: slow, speed: 0"), "speed", "is out of range"),
    (("name: cage, ", ""), "", "lacks name"),
    (("name: cage", "name: cage, size: 3"), "size", "is an unknown key"),
    (("[0.1, -2, 0.4]", "[0.1, -2]"), "lower", "allowed: [x, y, z] in m"),
    (("[0.1, -2, 0.4]", "[0.1, -2, 1.6]"), "lower", "z: 1.6, 1.5 m"),
    (("[0.1, -2, 0.4]", "[0.1, .nan, 0.4]"), "lower[1]", "is not a finite number"),
    (("[0.1, -2, 0.4]", "[0.1, -300, 0.4]"), "lower[1]", "allowed: -20 .. 20 m"),
    (("unit: mm", "unit: rad"), "upper[2].unit", "allowed: m, mm, cm"),
    (("target: all", "target: left_link6, points: [tip]"), "points", "hold for a group, not for a link"),
    (("target: all", "target: all, points: [hand]"), "points[0]", "allowed: tip, tool_end, elbow"),
]


@pytest.mark.parametrize(("change", "key", "text"), FAULTS)
def test_a_faulty_zone_is_refused_with_place_and_remedy(
    tmp_path: Path, change: tuple[str, str], key: str, text: str
) -> None:
    assert change[0] in STOP
    with pytest.raises(ConfigError, match=re.escape(text)) as caught:
        load_robot(written(tmp_path, STOP.replace(*change)))
    path = f"zones[0].{key}" if key else "zones[0]"
    assert f"mine.yaml:{FIRST + 1}: {path} " in str(caught.value)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"zones\[1\].name repeats the zone name"):
        load_robot(written(tmp_path, STOP, STOP))


def test_a_robot_without_a_model_has_no_zones(tmp_path: Path) -> None:
    recorded = find_robot("g1_inspire").read_text(encoding="utf-8")
    assert "\nmodel:" not in recorded
    file = tmp_path / "recorded.yaml"
    file.write_text(f"{recorded.rstrip()}\nzones:\n  - {STOP}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="zones need a model"):
        load_robot(file)


class TestInForce:
    """What zones of a file do, with the kinematics."""

    @pytest.fixture(autouse=True)
    def kinematics(self) -> None:
        pytest.importorskip("pinocchio", reason="pin is not installed (make setup)")

    def rows(self, robot: Any) -> np.ndarray:
        """A swing of the left arm's base by 0.3 rad."""
        home = np.array([joint.home for joint in robot.joints])
        rows = np.repeat(home[None], 30, axis=0)
        rows[:, 0] += np.linspace(0.0, 0.3, 30)
        return rows

    def box(self, robot: Any, part: PointPart, row: int = 20) -> str:
        """Return the corners of a small box around where a point of the left arm is in a row."""
        points = FilterInputs(robot, ChainOptions()).points
        assert points is not None
        (point,) = (one for one in points.points if (one.group, one.part) == ("left", part))
        at = points.places(self.rows(robot)[row : row + 1], (point,))[0, 0]
        lower, upper = (", ".join(f"{value:.5f}" for value in at + by) for by in (-0.005, 0.005))
        return f"lower: [{lower}], upper: [{upper}]"

    def judged(self, file: Path) -> Finding | None:
        robot = load_robot(file)
        chain = build_chain(robot, ChainOptions(filters_off=("collision",)))
        rows = self.rows(robot)
        judged = chain.run(Motion(0, 10_000_000, rows), stage=ChainStage.PLAN, measured=rows[0])
        return next((one for one in judged.findings if one.verdict is Verdict.STOP), None)

    @pytest.mark.parametrize("part", list(PointPart))
    def test_a_stop_zone_holds_for_the_points_that_it_names(self, tmp_path: Path, part: PointPart) -> None:
        piper = load_robot("piper")
        box = self.box(piper, part)
        zone = f"{{name: cage, kind: stop, target: left, points: [{part.value}], {box}}}"
        found = self.judged(written(tmp_path, zone))
        assert found is not None
        assert found.code == "stop_zone"
        assert found.text.endswith("(zone cage of the robot file)")
        others = ", ".join(one.value for one in PointPart if one is not part)
        elsewhere = zone.replace(f"points: [{part.value}]", f"points: [{others}]")
        assert self.judged(written(tmp_path, elsewhere)) is None

    def test_zones_of_the_parameter_add_to_those_of_the_file(self, tmp_path: Path) -> None:
        file = written(tmp_path, STOP, SLOW)
        robot = load_robot(file)
        inputs = FilterInputs(robot, ChainOptions(zones=("stop right 0 1 0 1 2 3",)))
        assert [zone.origin for zone in inputs.zones] == [
            "zone cage of the robot file",
            "zone operator of the robot file",
            "parameter zones",
        ]
        assert FilterInputs(robot, ChainOptions(), model=False).zones == ()

    def test_a_slow_zone_of_the_file_caps_the_rate(self, tmp_path: Path) -> None:
        robot = load_robot(written(tmp_path, SLOW))
        limits = build_speed_limits(robot)
        assert limits is not None
        cap = limits.cap(self.rows(robot), period_ns=10_000_000)
        assert cap.rate < 0.8
        assert cap.finding is not None
        assert "zone operator of the robot file" in cap.finding.text

    def test_a_stop_zone_of_the_file_holds_where_the_arm_is_measured(self, tmp_path: Path) -> None:
        box = self.box(load_robot("piper"), PointPart.TIP, row=29)
        lower, upper = re.findall(r"\[(.*?)\]", box)
        wide = [
            ", ".join(f"{float(value) + by:.5f}" for value in corner.split(","))
            for corner, by in ((lower, -0.02), (upper, 0.02))
        ]
        zone = f"{{name: cage, kind: stop, target: left, lower: [{wide[0]}], upper: [{wide[1]}]}}"
        robot = load_robot(written(tmp_path, zone))
        assert self.measured(robot, ()) == "measured_zone"

        assert self.measured(robot, ("collision",)) == "measured_zone", (
            "each filter is switched off by itself"
        )
        assert self.measured(robot, ("zones",)) is None

    def test_a_workspace_holds_where_the_arm_is_measured_unless_it_is_switched_off_by_name(self) -> None:
        robot = load_robot("piper")
        rows = self.rows(robot)
        checker = FilterInputs(robot, ChainOptions()).checker
        assert checker is not None
        y = checker.model.pose("left_link6", rows[0])[1, 3]
        box = (f"left -1 1 -1 {y + 0.005} -1 1",)
        found = {}
        for off in ((), ("collision",), ("workspace",)):
            check = build_measured_check(robot, ChainOptions(workspace=box, filters_off=off))
            assert check is not None
            looks = [check.look(rows[29], rows[:1]) for _ in range(2)]
            found[off] = None if looks[-1] is None else looks[-1].code
        assert found == {(): "measured_workspace", ("collision",): "measured_workspace", ("workspace",): None}

    def measured(self, robot: Any, off: tuple[str, ...]) -> str | None:
        """Return the code of what is found in the measured arm with some filters switched off."""
        check = build_measured_check(robot, ChainOptions(filters_off=off))
        assert check is not None
        rows = self.rows(robot)
        looks = [check.look(rows[29], rows[:1]) for _ in range(2)]
        return None if looks[-1] is None else looks[-1].code

    def test_a_target_that_is_nothing_in_the_model_is_refused_with_its_place(self, tmp_path: Path) -> None:
        file = written(tmp_path, STOP.replace("target: all", "target: nobody"))
        with pytest.raises(ConfigError, match="target of a zone") as caught:
            build_chain(load_robot(file))
        assert f"mine.yaml:{FIRST + 1}" in str(caught.value)
