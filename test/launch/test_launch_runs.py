# SPDX-License-Identifier: Apache-2.0
"""Launch files run for real: order of start, and how all ends, with waiting programs and with the nodes themselves."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not installed (part of a ROS 2 distribution)")

from launch.actions import EmitEvent, RegisterEventHandler, SetLaunchConfiguration
from launch.event_handlers import OnProcessExit, OnProcessIO, OnProcessStart
from launch.events import Shutdown

from launch import LaunchDescription, LaunchService

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "wam_sim_node": "wam_sim_node.main",
    "wam_driver_node": "wam_driver_node.main",
    "wam_safety_node": "wam_safety_node.main",
    "wam_bringup": "wam_bringup.main",
    "wam_planner_node": "wam_planner_node.main",
    "wam_executor_node": "wam_executor_node.main",
    "wam_view": "wam_bringup.view",
    "wam_gate": "wam_bringup.gate",
}
WAIT, OPEN, FAIL = "#!/bin/sh\nexec sleep 60\n", "#!/bin/sh\nexit 0\n", "#!/bin/sh\nexit 3\n"
REAL = f'#!/bin/sh\nexec {sys.executable} -m {{module}} "$@"\n'


def install(prefix: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Make a prefix in which every executable of the package is a program that waits, and the gate one that opens."""
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    folder = prefix / "lib" / "wam_deploy"
    for path in (index, folder):
        path.mkdir(parents=True)
    (index / "wam_deploy").touch()
    for name, module in MODULES.items():
        text = programs.get(name, programs.get("every", OPEN if name == "wam_gate" else WAIT))
        (folder / name).write_text(text.format(module=module))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{prefix}:{sys.prefix}")


class Run:
    """One run of a launch file.

    Attributes:
        started: executables in the order of their start, without gates.
        codes: exit codes by executable.
        text: everything the processes wrote.
    """

    def __init__(self, file: str, *, until: str = "", seen: str = "", **arguments: str) -> None:
        """Run `file` until `until` has started, or a process has written `seen`, or by itself."""
        self.started: list[str] = []
        self.codes: dict[str, int] = {}
        self.text = ""
        self._until, self._seen = until, seen
        service = LaunchService(noninteractive=True)
        description = runpy.run_path(str(ROOT / "launch" / file))["generate_launch_description"]()
        for action in (
            RegisterEventHandler(OnProcessStart(on_start=self._on_start)),
            RegisterEventHandler(OnProcessExit(on_exit=self._on_exit)),
            RegisterEventHandler(OnProcessIO(on_stdout=self._on_text, on_stderr=self._on_text)),
            *(SetLaunchConfiguration(name, value) for name, value in arguments.items()),
            description,
        ):
            service.include_launch_description(LaunchDescription([action]))
        service.run()

    def _on_start(self, event: Any, _context: Any) -> list[Any]:
        name = Path(event.cmd[0]).name
        if name != "wam_gate":
            self.started.append(name)
        return self._end() if name == self._until else []

    def _on_exit(self, event: Any, _context: Any) -> None:
        self.codes[Path(event.cmd[0]).name] = event.returncode

    def _on_text(self, event: Any) -> list[Any]:
        before, self.text = self.text, self.text + event.text.decode(errors="replace")
        return self._end() if self._seen and self._seen in self.text and self._seen not in before else []

    def _end(self) -> list[Any]:
        """Do what Ctrl-C does: interrupt every process and wait."""
        return [EmitEvent(event=Shutdown(reason="seen", due_to_sigint=False))]


def test_the_simulated_robot_starts_first_and_the_policy_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    run = Run("sim.launch.py", until="wam_bringup", robot="franka")
    assert run.started == ["wam_sim_node", "wam_safety_node", "wam_bringup"]


@pytest.mark.parametrize("robot", ["piper", "franka", "ur5e_inspire"])
def test_planner_and_executor_wait_for_the_safety_process(
    robot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    run = Run(
        f"{robot}.launch.py",
        until="wam_executor_node",
        launch_driver="false",
        composed="false",
        use_mock_hardware="true",
        hand_device="mock",
    )
    assert run.started[:2] == ["wam_driver_node", "wam_safety_node"]
    assert set(run.started[2:]) == {"wam_planner_node", "wam_executor_node"}


def test_the_end_of_the_safety_process_ends_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that runs on without it would look alive while nothing moves."""
    install(tmp_path, monkeypatch, wam_safety_node=FAIL)
    run = Run("sim.launch.py", robot="piper")
    assert run.started[:2] == ["wam_sim_node", "wam_safety_node"]
    assert run.codes["wam_safety_node"] == 3


def test_nothing_starts_behind_a_gate_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, wam_gate=FAIL)
    assert Run("sim.launch.py", robot="piper").started == ["wam_sim_node"]


@pytest.mark.slow
@pytest.mark.sim
@pytest.mark.parametrize("robot", ["piper", "franka", "ur5e_inspire"])
def test_a_simulated_robot_is_driven_and_held_and_everything_ends_well(
    robot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes themselves, until chunks are followed; then what Ctrl-C does."""
    install(tmp_path, monkeypatch, every=REAL)
    run = Run("sim.launch.py", seen="HOLD -> NOMINAL", robot=robot, namespace="lab")
    assert "HOLD -> NOMINAL" in run.text, run.text
    assert run.codes == dict.fromkeys(("wam_sim_node", "wam_gate", "wam_safety_node", "wam_bringup"), 0)
    assert "Traceback" not in run.text, run.text
