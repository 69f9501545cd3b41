# SPDX-License-Identifier: Apache-2.0
"""No path leads from a chunk to a controller that skips the safety chain: the code's publishers are walked."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wam.core.chunk import ActionChunk
from wam.core.safety.chain import Judged, SafetyChain
from wam.core.safety.filters import ChainStage
from wam.core.trajectory.motion import Motion
from wam.devices.loader import load_robot
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.filters import build_chain

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "wam", "wam_planner_node", "wam_executor_node", "wam_safety_node", "wam_sim_node", "wam_driver_node",
    "wam_bringup", "benchmarks", "tools", "launch",
)  # fmt: skip
OUTPUTS = "wam_safety_node/outputs.py"
PUBLISHERS = ("create_publisher", "create_lifecycle_publisher")
COMMAND_TYPES = ("JointTrajectory", "Float64MultiArray", "FollowJointTrajectory", "MultiDOFJointTrajectory")

RIVAL = "wam/bench/soak/faults.py"
"""Makes a publisher of commands beside the safety node's, in the domain of a simulated robot, and publishes nothing."""

STATES = {
    "wam_sim_node/arm.py": "the simulated driver's measured states and echo",
    "wam_sim_node/task.py": "where the objects of a simulated task are, under names that no joint has",
    "wam_sim_node/world.py": "the whole simulated world, for a viewer, on a topic that no driver reads",
    "wam_driver_node/node.py": "measured states of a driver's edge",
    "wam_bringup/view.py": "joint states for RViz",
    "wam/bench/command_peer.py": "measured states of a bench",
    "test/support/relay.py": "measured states with a fault, under a prefix of their own",
    "wam/stack/replay.py": "recorded states, refused where a driver is up",
}
"""Files that publish joint states, and what these are: none of them is a command."""


def files() -> Iterator[tuple[str, ast.Module]]:
    """Every source file of the suite, tests left out."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def publishers() -> Iterator[tuple[str, int, str]]:
    """File, line and source of every call (or reference) that makes a publisher."""
    for name, tree in files():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call) and any(word in ast.unparse(node.func) for word in PUBLISHERS)
            ) or (
                isinstance(node, ast.Call)
                and "partial" in ast.unparse(node.func)
                and any(word in ast.unparse(node) for word in PUBLISHERS)
            ):
                yield name, node.lineno, ast.unparse(node)


def test_only_the_safety_node_s_outputs_publish_on_a_command_topic() -> None:
    found = {name for name, _, call in publishers() if "command_topic" in call}
    assert found == {OUTPUTS, RIVAL}


def test_the_rival_of_a_soak_publishes_no_command() -> None:
    tree = ast.parse((ROOT / RIVAL).read_text(encoding="utf-8"))
    rival = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and "second_publisher" in node.name
    )
    assert "JointState" in ast.unparse(rival)
    assert ".publish(" not in ast.unparse(rival)
    assert ast.unparse(tree).count("JointState") == ast.unparse(rival).count("JointState") + 1, (
        "and its import"
    )


def test_only_the_safety_node_s_outputs_know_the_messages_of_controllers() -> None:
    found = set()
    for name, tree in files():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and any(one.name in COMMAND_TYPES for one in node.names):
                found.add(name)
    readers = {
        "wam_sim_node/arm.py",
        "wam_driver_node/node.py",
        "wam/stack/listener.py",
        "wam/bench/fuzz_targets.py",
    }
    assert found <= {OUTPUTS, *readers}, (
        "a new file imports a controller's message: if it publishes one, chunks could reach an arm around the chain"
    )
    subscribers = found - {OUTPUTS}
    for name, line, call in publishers():
        assert name not in subscribers or not any(kind in call for kind in COMMAND_TYPES), f"{name}:{line}"


def test_joint_states_are_published_by_known_files_only() -> None:
    """The Piper takes its commands as JointState: a publisher of that type has to be known by name."""
    found = {name for name, _, call in publishers() if "JointState" in call}
    unknown = found - set(STATES) - {OUTPUTS, RIVAL}
    assert not unknown, f"{sorted(unknown)} publish JointState; say in this test what it is"


def test_commands_are_sent_from_one_place_which_the_cycle_calls_with_what_it_has_judged() -> None:
    sends = []
    for name, tree in files():
        if not name.startswith("wam_safety_node/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("outputs.send"):
                sends.append((name, ast.unparse(node)))
    assert len(sends) == 1
    node_source = (ROOT / "wam_safety_node" / "node.py").read_text(encoding="utf-8")
    step = next(
        one
        for one in ast.walk(ast.parse(node_source))
        if isinstance(one, ast.Call) and ast.unparse(one.func) == "cycle.step"
    )
    assert "outputs.send" in ast.unparse(step), "commands go out as the cycle's `emit`, and in no other way"


def test_every_state_that_is_played_has_passed_the_chain_at_every_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    robot = load_robot("piper")
    passed: dict[ChainStage, list[Judged]] = {stage: [] for stage in ChainStage}
    original = SafetyChain.run

    def run(self: SafetyChain, motion: Motion, *, stage: ChainStage, measured: np.ndarray) -> Judged:
        passed[stage].append(original(self, motion, stage=stage, measured=measured))
        return passed[stage][-1]

    monkeypatch.setattr(SafetyChain, "run", run)
    wall = [0]
    cycle = build_cycle(robot, settings_for(robot), build_chain(robot, model=False), wall=lambda: wall[0])
    home = np.array([joint.home for joint in robot.joints])
    now, executed = 10**18, 0
    for k in range(60):
        now += 10_000_000
        wall[0] += 10_000_000
        cycle.offer_state("left", stamp_ns=now, positions=home[:7])
        cycle.offer_state("right", stamp_ns=now, positions=home[7:])
        before = cycle.executing
        if k % 10 == 5:
            chunk = ActionChunk(
                stamp_ns=now - 100_000_000, generation=1, sequence=k, contract_hash="a", context_version=1,
                context_age_ns=0, phase_offset_rows=0, row_period_ns=33_333_333,
                joint_names=robot.joint_names, rows=np.tile(home, (16, 1)),
            )  # fmt: skip
            cycle.offer_chunk(chunk, arrival_ns=now)
        cycle.step(now)
        executing = cycle.executing
        if executing is None or executing is before:
            continue
        executed += 1
        assert all(len(judged) == executed for judged in passed.values())
        # What is played is a view of the judged states, not a copy that something could have changed since.
        assert executing.plan.states is passed[ChainStage.PLAN][-1].motion.rows
    assert executed == 6
