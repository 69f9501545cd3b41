# SPDX-License-Identifier: Apache-2.0
"""What a demo does by default, and what is refused before anything moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from wam.core.contract import TrainedOn
from wam.core.errors import ConfigError, ContractMismatch
from wam.devices.loader import load_robot
from wam.models.bundle import state_training
from wam.models.robot_layout import RobotLayout
from wam.policies import shipped
from wam.policies.bundles import make_tiny_bundle, open_policy
from wam.sim.quality import Quality
from wam.sim.tasks.registry import TASKS
from wam.stack import demo_plan
from wam.stack.demo_plan import DEMOS, DemoDefault, choose_demo, plan_demo
from wam.stack.node_specs import StackOptions

pytestmark = pytest.mark.sim

TASK = "piper_move_large_object"


def wanted(robot: str = "piper", policy: str = "", seed: int = 1000) -> StackOptions:
    return StackOptions(robot, policy, seed=seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shipped bundles with one, of random weights."""
    target = tmp_path_factory.mktemp("shipped") / "aha_wam" / TASK
    bundle = make_tiny_bundle(target, "aha_wam", robot=RobotLayout.of(load_robot("piper")))
    state_training(bundle, task=TASK, trained_on=TrainedOn("piper", 60, (0, 63), "fast"))
    return target.parents[1]


@pytest.fixture
def ships(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shipped, "SHIPPED_DIR", folder)
    return folder / "aha_wam" / TASK


@pytest.mark.parametrize("robot", DEMOS)
def test_the_default_task_of_a_robot_is_one_of_its_own(robot: str) -> None:
    assert TASKS[DEMOS[robot].task].robot == robot


def test_the_bundle_that_ships_is_the_default_and_has_a_name_everywhere(ships: Path) -> None:
    assert choose_demo("piper").policy == f"aha_wam/{TASK}"
    plan = plan_demo(wanted())
    assert (plan.options.task.name, plan.stack.policy) == (TASK, f"aha_wam/{TASK}")
    assert plan.notes == ()
    # Its images are those that it was trained on.
    assert plan.options.quality is Quality.FAST
    assert plan_demo(wanted(), quality=Quality.FULL).options.quality is Quality.FULL
    assert open_policy(f"aha_wam/{TASK}").directory == ships
    named = plan_demo(wanted(policy=str(ships)))
    assert named.contract == plan.contract


def test_a_default_may_be_a_directory(ships: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shipped, "SHIPPED_DIR", tmp_path)
    monkeypatch.setattr(demo_plan, "DEMOS", {"piper": DemoDefault(TASK, str(ships))})
    assert plan_demo(wanted()).stack.policy == str(ships)


@pytest.mark.parametrize(
    ("robot", "task", "what"),
    [("piper", "", "piper"), ("piper", "piper_store_plate", "task piper_store_plate"), ("desk", "", "desk")],
)
def test_where_nothing_ships_the_weights_are_random_and_it_is_said(
    robot: str, task: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "SHIPPED_DIR", tmp_path)
    choice = choose_demo(robot, task=task)
    assert choice.policy == "aha_wam/random"
    assert choice.notes == (
        f"no trained policy ships for {what} yet: random weights, the arm will only twitch",
    )
    assert choose_demo(robot, task=task, policy="fake").notes == ()


def test_a_task_that_a_policy_was_not_trained_for_is_named_before_anything_moves(ships: Path) -> None:
    other = {"task": "piper_store_plate"}
    with pytest.raises(ContractMismatch, match=rf"aha_wam/{TASK} was trained for task {TASK}.*--any-task"):
        plan_demo(wanted(policy=f"aha_wam/{TASK}"), **other)
    assert (
        plan_demo(wanted(policy=f"aha_wam/{TASK}"), any_task=True, **other).options.task.name == other["task"]
    )


def test_a_seed_of_the_training_data_is_told(ships: Path) -> None:
    (note,) = plan_demo(wanted(seed=63)).notes
    assert note == "seed 63 is one of those that the policy was trained on (0 to 63)"


def test_a_task_of_another_robot_and_a_robot_without_a_model_are_refused() -> None:
    with pytest.raises(ContractMismatch, match="is for another robot"):
        plan_demo(wanted(policy="fake"), task="franka_box_to_bowl")
    with pytest.raises(ConfigError, match="cannot be simulated"):
        plan_demo(wanted("g1_inspire"))


def test_a_robot_without_a_task_follows_the_policy_without_one() -> None:
    plan = plan_demo(wanted(policy="fake"), task="free")
    assert plan.options.task.name == "free"
    assert plan.stack.instruction == plan.contract.instruction
    assert not plan.notes
