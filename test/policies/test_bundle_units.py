# SPDX-License-Identifier: Apache-2.0
"""Units that a conversion states: presets, a file, the robot's ranges; and the bundles that a robot refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from wam.bench.policy import synthetic_observation
from wam.cli.main import run
from wam.core.errors import BundleError, ConfigError, ContractMismatch, WamError
from wam.core.observation import Instruction
from wam.devices.loader import load_robot
from wam.models.bundle import Bundle, open_bundle
from wam.models.bundle.bundle import write_stats
from wam.models.column_units import ColumnUnit
from wam.models.normalisation import FieldStats, PolicyStats
from wam.models.robot_layout import PIPER_JOINTS, RobotLayout
from wam.policies.bundles import load_policy, make_tiny_bundle, state_units
from wam.policies.loading import load_policy as load_request
from wam.policies.ranges import range_faults, require_ranges
from wam.policies.unit_options import warn_of_ranges
from wam.policies.units import PRESETS, UnitStatements
from wam.runtime.policy import PolicyRequest

PIPER = load_robot("piper")
GRIPPERS = [i for i, name in enumerate(PIPER_JOINTS) if name.endswith("gripper")]
ROBOTS = ("piper", "franka", "ur5e_inspire", "g1_arms", "g1_inspire")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {kind: make_tiny_bundle(folder / kind, kind).directory for kind in ("aha_wam", "dust", "ud_vla")}


def in_units(field: FieldStats, units: tuple[ColumnUnit, ...]) -> FieldStats:
    """Return the same statistics in the numbers of another data set."""
    one = FieldStats(field.values, units)
    values = {
        name: array / [unit.gain for unit in units] if name == "std" else one.from_si(array)
        for name, array in field.values.items()
    }
    return FieldStats(values, units)


def rewritten(source: Path, out: Path, change: Callable[[PolicyStats], PolicyStats]) -> Bundle:
    """Return a copy of a bundle with other statistics."""
    shutil.copytree(source, out)
    write_stats(out, change(open_bundle(source).stats))
    return open_bundle(out)


def misread(path: Path, bundles: dict[str, Path]) -> Bundle:
    """Return the tiny bundle for two Piper arms with a gripper whose numbers go from 0 to 1."""

    def change(stats: PolicyStats) -> PolicyStats:
        def field(one: FieldStats) -> FieldStats:
            values = {name: array.copy() for name, array in one.values.items()}
            for name, number in {"min": 0.0, "max": 1.0, "mean": 0.6, "std": 0.4}.items():
                values[name][GRIPPERS] = number
            return FieldStats(values)

        return PolicyStats(field(stats.state), field(stats.action))

    return rewritten(bundles["aha_wam"], path, change)


def chunk(bundle: Path) -> npt.NDArray[np.float64]:
    policy = load_policy(bundle, seed=3, threads=1)
    assert policy.planner is not None
    assert policy.executor is not None
    seen = synthetic_observation(policy.contract, stamp_ns=10**9, seed=1)
    context = policy.planner.plan(seen, instruction=Instruction("go"))
    routed = policy.executor.route(seen, context=context)
    return policy.executor.act(routed, proprio=seen.state).rows


def stated(statements: UnitStatements, width: int = 14) -> PolicyStats:
    """Return the statistics of two Piper arms, or of that many columns, with the statements applied."""
    names = PIPER_JOINTS[:width]
    plain = FieldStats({"mean": np.full(width, 0.5), "std": np.ones(width)})
    return statements.apply(PolicyStats(plain, plain), state_joints=names, action_joints=names)


@pytest.mark.parametrize("kind", ["aha_wam", "dust", "ud_vla"])
def test_a_policy_trained_in_other_units_commands_the_same_motion(
    kind: str, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """State in and rows out pass one seam: live nodes, replay and evaluation all call these planners and executors."""
    units = (ColumnUnit("deg", offset=40.0), ColumnUnit("rad", scale=0.5), ColumnUnit("mm", offset=-3.0)) * 5

    def change(stats: PolicyStats) -> PolicyStats:
        return PolicyStats(in_units(stats.state, units[:14]), in_units(stats.action, units[:14]))

    other = rewritten(bundles[kind], tmp_path / "other", change)
    assert not np.allclose(
        other.stats.action.values["mean"], open_bundle(bundles[kind]).stats.action.values["mean"]
    )
    np.testing.assert_allclose(chunk(other.directory), chunk(bundles[kind]), atol=2e-4)


def test_units_are_in_the_contract_and_a_bundle_without_them_keeps_its_own(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    source = open_bundle(bundles["aha_wam"])
    same = rewritten(source.directory, tmp_path / "same", lambda stats: stats)
    assert same.contract == source.contract
    assert json.loads((same.directory / "stats.json").read_text())["version"] == 1
    made = state_units(source.directory, tmp_path / "made", UnitStatements("piper_metres"))
    assert made.contract.contract_hash != source.contract.contract_hash
    assert made.stats.action.units[6] == ColumnUnit("m")
    assert json.loads((made.directory / "stats.json").read_text())["version"] == 2, "older readers refuse it"


def test_a_gripper_in_zero_to_one_becomes_the_robots_opening() -> None:
    stats = stated(UnitStatements("robotwin_aloha", robot=PIPER))
    assert stats.action.units[6] == ColumnUnit("m", scale=0.07)
    np.testing.assert_allclose(stats.action.to_si(np.ones(14))[GRIPPERS], 0.07)
    assert [unit.unit for unit in stats.state.units[:6]] == ["rad"] * 6


def test_raw_numbers_of_the_arms_own_interface_become_radians_and_metres() -> None:
    stats = stated(UnitStatements("piper_sdk"), width=7)
    np.testing.assert_allclose(stats.state.to_si(np.full(7, 45_000.0)), [np.pi / 4] * 6 + [0.045])


def test_a_file_names_columns_and_overrides_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "units.yaml"
    path.write_text(
        "left_joint3: {sign: -1, offset: 1.5}\n"
        "left_gripper: {unit: fraction, sign: -1, offset: 1}\n"
        "action:\n  left_joint3: {unit: deg}\n"
    )
    stats = stated(UnitStatements("piper_metres", path, PIPER))
    assert stats.state.units[2] == ColumnUnit(offset=1.5, sign=-1)
    assert stats.action.units[2] == ColumnUnit("deg")
    assert stats.action.units[3] == ColumnUnit("rad")
    np.testing.assert_allclose(stats.action.to_si(np.zeros(14))[6], 0.07, err_msg="1 is closed, 0 is open")
    np.testing.assert_allclose(stats.action.to_si(np.ones(14))[6], 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("preset", "text", "width", "expected"),
    [
        ("robotwin", "", 14, "robotwin_aloha, piper_metres, piper_sdk; change it in --embodiment"),
        (
            "robotwin_aloha",
            "",
            7,
            "7 state columns, which embodiment robotwin_aloha does not have; allowed: 14",
        ),
        ("piper_sdk", "", 6, "allowed: 7 or 14 columns"),
        ("", "[1, 2]", 14, "a mapping of joints"),
        ("", "action: [1]", 14, "a mapping of joints"),
        ("", "left_joint1: {", 14, "cannot be read"),
        (
            "",
            "left_joint9: {unit: m}",
            14,
            "got ['left_joint9']; allowed: joints of the policy: left_gripper",
        ),
        ("", "state: {right_wheel: {}}", 14, "got ['right_wheel']"),
        ("", "left_joint1: deg", 14, "column left_joint1: got 'deg'; allowed: a mapping"),
        (
            "",
            "left_joint1: {unit: degrees}",
            14,
            "got 'degrees'; allowed: one of si, rad, deg, m, mm, fraction",
        ),
        ("", "left_joint1: {scale: 0}", 14, "column left_joint1: scale: got 0"),
        ("", "left_joint1: {unit: fraction, scale: .nan}", 14, "scale: got nan"),
    ],
)
def test_a_statement_that_does_not_fit_is_refused(
    tmp_path: Path, preset: str, text: str, width: int, expected: str
) -> None:
    path = tmp_path / "units.yaml"
    path.write_text(text)
    with pytest.raises(WamError) as caught:
        stated(UnitStatements(preset, path if text else None, PIPER), width=width)
    assert expected in str(caught.value)


def test_a_fraction_needs_a_robot_that_has_the_joint(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"column left_gripper is stated as a fraction.*change it in --robot"
    ):
        stated(UnitStatements("robotwin_aloha"))
    with pytest.raises(BundleError, match="robot franka without left_gripper"):
        stated(UnitStatements("robotwin_aloha", robot=load_robot("franka")))
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        stated(UnitStatements("", tmp_path / "none.yaml"))


def test_every_preset_cites_where_its_convention_is_stated() -> None:
    assert all("/" in preset.source and ": " in preset.source for preset in PRESETS.values())


def test_a_bundle_in_other_units_is_refused_before_anything_is_loaded(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    """A gripper in 0..1 was taken for metres: the policy held it at the limit, open, whatever it meant."""
    made = misread(tmp_path / "fraction", bundles)
    request = PolicyRequest(str(made.directory), planner=True, executor=True, device="cpu")
    with pytest.raises(ContractMismatch) as caught:
        load_request(request, robot=PIPER)
    for text in (
        "robot piper in 4 columns",
        "state column left_gripper has data in 0 .. 1 m, the joint's limits are 0 .. 0.07 m",
        "action column right_gripper has data in 0 .. 1 m",
        "wam convert units BUNDLE OUT --units FILE",
    ):
        assert text in str(caught.value)
    fixed = state_units(made.directory, tmp_path / "fixed", UnitStatements("robotwin_aloha", robot=PIPER))
    request = replace(request, policy=str(fixed.directory))
    assert load_request(request, robot=PIPER).contract == fixed.contract


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("kind", ["aha_wam", "ud_vla"])
def test_built_in_policies_fit_every_robot(name: str, kind: str, tmp_path: Path) -> None:
    robot = load_robot(name)
    assert range_faults(make_tiny_bundle(tmp_path / "b", kind, robot=RobotLayout.of(robot)), robot) == []


def test_a_unit_of_another_kind_of_joint_is_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "units.yaml"
    path.write_text("left_gripper: {unit: deg}\nright_joint1: {unit: mm}\n")
    made = state_units(bundles["aha_wam"], tmp_path / "made", UnitStatements(file=path))
    with pytest.raises(ContractMismatch) as caught:
        require_ranges(made, PIPER)
    assert "action column left_gripper is stated in deg, but the joint moves in m" in str(caught.value)
    assert "state column right_joint1 is stated in mm, but the joint moves in rad" in str(caught.value)


def test_data_a_little_beyond_the_limits_are_a_calibration_and_not_another_unit(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    def change(stats: PolicyStats) -> PolicyStats:
        values = {name: array.copy() for name, array in stats.action.values.items()}
        values["min"][1] = -0.3  # the limits are 0 .. 3.14
        return PolicyStats(stats.state, FieldStats(values))

    assert range_faults(rewritten(bundles["aha_wam"], tmp_path / "b", change), PIPER) == []


@pytest.mark.parametrize(("spans", "told"), [((0.0, 1.0), "left_joint1"), ((0.0, 0.0), "every joint")])
def test_joints_that_never_move_in_the_data_are_told(
    spans: tuple[float, float],
    told: str,
    bundles: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Statistics of a recording at rest were converted without a word, and the policy could move nothing."""

    def change(stats: PolicyStats) -> PolicyStats:
        values = {name: array.copy() for name, array in stats.state.values.items()}
        for name in ("min", "max", "q01", "q99"):
            if name in values:
                values[name][0] *= spans[0]
                values[name][1:] *= spans[1]
        return PolicyStats(FieldStats(values), stats.action)

    made = rewritten(bundles["aha_wam"], tmp_path / "b", change)
    warn_of_ranges(made, UnitStatements(robot=PIPER))
    lines = [line for line in capsys.readouterr().err.splitlines() if "at rest in the data" in line]
    assert len(lines) == 1
    assert f"travel: {told}; not used" in lines[0]


def test_the_command_states_units_warns_and_info_shows_them(
    bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = misread(tmp_path / "fraction", bundles)
    assert run(["convert", "units", str(made.directory), str(tmp_path / "none")]) == 1
    assert "allowed: --embodiment or --units" in capsys.readouterr().err
    words = ["convert", "units", str(made.directory), str(tmp_path / "out"), "--robot", "piper"]
    assert run([*words, "--embodiment", "piper_metres"]) == 0
    assert "warning: state column left_gripper has data in 0 .. 1 m" in capsys.readouterr().err
    assert run([*words, "--embodiment", "robotwin_aloha"]) == 1
    assert "is not empty" in capsys.readouterr().err
    words[3] = str(tmp_path / "good")
    assert run([*words, "--embodiment", "robotwin_aloha"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert run(["info", "--policy", words[3], "--json"]) == 0
    columns: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["columns"]
    assert columns[6] == {
        "vector": "state",
        "joint": "left_gripper",
        "unit": "m",
        "scale": 0.07,
        "offset": 0.0,
        "sign": 1,
        "low": 0.0,
        "high": pytest.approx(0.07),
    }
    assert len(columns) == 28
    assert run(["info", "--policy", words[3]]) == 0
    assert "left_gripper   m      0.07       0     1" in capsys.readouterr().out
