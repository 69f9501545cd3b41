# SPDX-License-Identifier: Apache-2.0
"""Every bundle that ships loads, fits the robot of its task, is small and has a model card."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from wam.core.contract import TrainedOn
from wam.core.errors import WamError
from wam.devices.loader import load_robot
from wam.models.bundle import open_bundle, state_training
from wam.models.robot_layout import RobotLayout
from wam.policies.bundles import load_policy, make_tiny_bundle
from wam.policies.shipped import SHIPPED_DIR, shipped_bundles
from wam.runtime.policy import require_fit
from wam.sim.tasks.registry import TASKS

ALL_BYTES = 25_000_000
"""Most that all bundles together may take."""

HEADINGS = ("Task", "Training recipe", "Measured success")
"""Sections of a model card."""


def faults_of(directory: Path) -> list[str]:
    """Return what is wrong with a bundle, one line each."""
    faults = []
    card = directory / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    faults += ["its model card names no licence"] if "Apache-2.0" not in text else []
    faults += [f"its model card has no section {name!r}" for name in HEADINGS if f"\n## {name}\n" not in text]
    try:
        contract = open_bundle(directory).contract
        if contract.task not in TASKS:
            return [*faults, f"its task {contract.task!r} is none"]
        robot = load_robot(TASKS[contract.task].robot)
        require_fit(contract, robot)
        load_policy(directory, robot=RobotLayout.of(robot), limits=robot)
    except WamError as error:
        return [*faults, str(error)]
    if contract.kind != directory.parent.name:
        faults.append(f"it lies among the bundles of {directory.parent.name}, and is of kind {contract.kind}")
    if contract.trained_on.has_seed(1000) or not contract.trained_on.data_set:
        faults.append("its data are not stated, or contain the seeds of evaluations")
    return faults


def test_every_bundle_that_ships_can_be_used_and_has_a_model_card() -> None:
    assert {name: found for name, path in shipped_bundles().items() if (found := faults_of(path))} == {}


def test_nothing_but_bundles_ships_and_all_of_them_are_small() -> None:
    files = [path for path in SHIPPED_DIR.rglob("*") if path.is_file()]
    bundles = set(shipped_bundles().values())
    assert [path for path in files if path.parent not in bundles] == []
    assert sum(path.stat().st_size for path in files) <= ALL_BYTES


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("shipped") / "aha_wam" / "carry"
    bundle = make_tiny_bundle(target, "aha_wam", robot=RobotLayout.of(load_robot("piper")))
    state_training(bundle, task="piper_move_large_object", trained_on=TrainedOn("piper", 60, (0, 63), "fast"))
    (target / "README.md").write_text(
        "# Carry, Apache-2.0\n" + "".join(f"\n## {name}\n\nText.\n" for name in HEADINGS)
    )
    return target


def test_the_faults_of_a_bundle_are_found(made: Path, tmp_path: Path) -> None:
    assert faults_of(made) == []
    copy = tmp_path / "dust" / "carry"
    shutil.copytree(made, copy)
    (copy / "README.md").unlink()
    assert faults_of(copy) == [
        "its model card names no licence",
        *(f"its model card has no section {name!r}" for name in HEADINGS),
        "it lies among the bundles of dust, and is of kind aha_wam",
    ]
    state_training(open_bundle(copy), task="franka_box_to_bowl", trained_on=TrainedOn())
    assert "which robot franka does not have" in faults_of(copy)[-1]
