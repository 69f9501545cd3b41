# SPDX-License-Identifier: Apache-2.0
"""Launch files run for real, with programs that only wait in place of the nodes: order of start, and how all ends."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not installed (part of a ROS 2 distribution)")

from launch.actions import EmitEvent, RegisterEventHandler, SetLaunchConfiguration
from launch.event_handlers import OnProcessStart
from launch.events import Shutdown

from launch import LaunchDescription, LaunchService

ROOT = Path(__file__).resolve().parents[2]
EXECUTABLES = (
    "wam_sim_node",
    "wam_safety_node",
    "wam_bringup",
    "wam_planner_node",
    "wam_executor_node",
    "wam_view",
)
WAIT = "#!/bin/sh\nexec sleep 30\n"


def install(prefix: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Make a prefix in which every executable of the package is a small program."""
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    folder = prefix / "lib" / "wam_deploy"
    for path in (index, folder):
        path.mkdir(parents=True)
    (index / "wam_deploy").touch()
    for name in EXECUTABLES:
        (folder / name).write_text(programs.get(name, WAIT))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))


def run(file: str, *, until: str = "", **arguments: str) -> list[str]:
    """Run a launch file until `until` has started, or by itself; return the executables in order of their start."""
    started: list[str] = []

    def on_start(event: Any, _context: Any) -> list[Any]:
        name = Path(event.cmd[0]).name
        started.append(name)
        return [EmitEvent(event=Shutdown(reason="seen"))] if name == until else []

    service = LaunchService(noninteractive=True)
    description = runpy.run_path(str(ROOT / "launch" / file))["generate_launch_description"]()
    for action in (
        RegisterEventHandler(OnProcessStart(on_start=on_start)),
        *(SetLaunchConfiguration(name, value) for name, value in arguments.items()),
        description,
    ):
        service.include_launch_description(LaunchDescription([action]))
    service.run()
    return started


def test_the_simulated_robot_starts_first_and_the_policy_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    started = run("sim.launch.py", until="wam_bringup", robot="franka")
    assert started == ["wam_sim_node", "wam_safety_node", "wam_bringup"]


@pytest.mark.parametrize("robot", ["piper", "franka", "ur5e_inspire"])
def test_planner_and_executor_wait_for_the_safety_process(
    robot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    started = run(f"{robot}.launch.py", until="wam_executor_node", launch_driver="false", composed="false")
    assert started[0] == "wam_safety_node"
    assert set(started[1:]) == {"wam_planner_node", "wam_executor_node"}


def test_the_end_of_the_safety_process_ends_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that runs on without it would look alive while nothing moves."""
    install(tmp_path, monkeypatch, wam_safety_node="#!/bin/sh\nexit 3\n")
    assert run("sim.launch.py", robot="piper")[:2] == ["wam_sim_node", "wam_safety_node"]
