# SPDX-License-Identifier: Apache-2.0
"""`wam bench sim`: how much faster than real time each simulated robot runs, with and without its cameras. No ROS."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from wam.bench import Announce
from wam.bench.result import Bar, BenchResult
from wam.core.clock import NS_PER_S
from wam.core.errors import MissingDependency
from wam.devices.controllers import TrajectoryDriver
from wam.devices.jtc import Trajectory, TrajectoryPoint
from wam.devices.loader import load_robot
from wam.devices.registry import make_drivers
from wam.robots.description import CommandKind, RobotDescription
from wam.sim.rendering import CameraRenderer, require_egl
from wam.sim.world import SimWorld, Snapshot

ROBOTS = ("franka", "ur5e_inspire", "piper")
SECONDS = 5.0
SIDE_PX = 224
CAMERA_RATE_HZ = 10.0
COMMAND_PERIOD_S = 0.04
SWING = 0.15
"""Every arm joint swings by so much about its home while it is measured [rad]."""

BARS = {f"sim_{robot}_realtime_factor": Bar(1.0, "min") for robot in ROBOTS}


def run(stage: Announce, *, seconds: float = SECONDS) -> BenchResult:
    """Simulate each robot for `seconds` [s] of its time, moving, twice: without cameras and with all of its own.

    Args:
        stage: called with what is being measured.
        seconds: simulated time of each run [s].
    """
    results: dict[str, float] = {}
    notes = [f"cameras: {SIDE_PX}x{SIDE_PX} px, {CAMERA_RATE_HZ:g} frames/s, rendered in separate threads"]
    try:
        require_egl()
        renders = True
    except MissingDependency as error:
        renders = False
        notes.append(str(error))
    for name in ROBOTS:
        robot = _with_cameras(load_robot(name))
        stage(f"{name} without cameras")
        moving = _Moving(robot)
        began = time.process_time()
        steps = moving.run(seconds)
        results[f"sim_{name}_steps_per_s"] = round(steps / (time.process_time() - began), 1)
        if not renders:
            continue
        stage(f"{name} with {len(robot.cameras)} cameras")
        factor, render_ms = _with_pictures(robot, seconds)
        results[f"sim_{name}_realtime_factor"] = round(factor, 2)
        results[f"sim_{name}_render_p50_ms"] = round(float(np.median(render_ms)), 2)
        results[f"sim_{name}_cameras"] = float(len(robot.cameras))
    notes.append("steps: physics and drivers, per second of CPU time of one core; factors: wall time")
    return BenchResult(results=results, bars=BARS, notes=tuple(notes))


class _Moving:
    """A world whose arms swing, by commands through the twins of their drivers."""

    def __init__(self, robot: RobotDescription) -> None:
        self.robot = robot
        self.world = SimWorld(robot)
        self._drivers = make_drivers(robot)
        self._steps = 0

    def run(self, seconds: float, picture: Callable[[Snapshot], None] | None = None, every: int = 1) -> int:
        """Run for `seconds` [s] and return the physics steps; `picture` is called every `every` steps."""
        world, steps = self.world, round(seconds / self.world.timestep)
        command_every = round(COMMAND_PERIOD_S / world.timestep)
        for _ in range(steps):
            if self._steps % command_every == 0:
                self._command(world.time)
            if picture is not None and self._steps % every == 0:
                picture(world.snapshot(round(world.time * NS_PER_S)))
            for name, driver in self._drivers.items():
                if isinstance(driver, TrajectoryDriver):
                    driver.observe(world.measured(name))
                world.set_targets(name, driver.advance(world.timestep), driver.setpoint_velocity)
            world.step()
            self._steps += 1
        return steps

    def _command(self, now: float) -> None:
        ahead = now + 0.2
        for group in self.robot.groups:
            home = np.array([joint.home for joint in group.joints])
            scale = np.array([SWING * (joint.kind.unit == "rad") for joint in group.joints])
            position = home + scale * (1.0 - np.cos(2.0 * ahead)) / 2.0
            driver = self._drivers[group.name]
            if group.command_kind is CommandKind.JOINT_TRAJECTORY and isinstance(driver, TrajectoryDriver):
                point = TrajectoryPoint(200_000_000, position.tolist(), np.zeros_like(home).tolist())
                driver.command_trajectory(Trajectory(group.driver_names, [point]), 0)
            else:
                driver.command(group.driver_names, position.tolist(), [], [])


class _Camera(threading.Thread):
    """Renders the snapshots it is given, one at a time; the caller blocks while one is still waiting."""

    def __init__(self, moving: _Moving, index: int) -> None:
        super().__init__(daemon=True)
        self._renderer = CameraRenderer(moving.world.model, moving.robot.cameras[index])
        self.inbox: queue.Queue[Snapshot | None] = queue.Queue(maxsize=1)
        self.opened = threading.Event()
        self.milliseconds: list[float] = []

    def run(self) -> None:
        self._renderer.open()
        self.opened.set()
        while (snapshot := self.inbox.get()) is not None:
            began = time.perf_counter()
            self._renderer.render(snapshot)
            self.milliseconds.append((time.perf_counter() - began) * 1e3)
        self._renderer.close()


def _with_pictures(robot: RobotDescription, seconds: float) -> tuple[float, Sequence[float]]:
    """Return simulated over wall time with every camera of `robot`, and the time of each image [ms]."""
    moving = _Moving(robot)
    cameras = [_Camera(moving, index) for index in range(len(robot.cameras))]
    for camera in cameras:
        camera.start()
        camera.opened.wait()

    def picture(snapshot: Snapshot) -> None:
        for camera in cameras:
            camera.inbox.put(snapshot)

    every = round(1.0 / CAMERA_RATE_HZ / moving.world.timestep)
    began = time.perf_counter()
    moving.run(seconds, picture, every)
    for camera in cameras:
        camera.inbox.put(None)
    for camera in cameras:
        camera.join()
    wall = time.perf_counter() - began
    return seconds / wall, [value for camera in cameras for value in camera.milliseconds]


def _with_cameras(robot: RobotDescription) -> RobotDescription:
    cameras = tuple(
        replace(camera, height=SIDE_PX, width=SIDE_PX, rate=CAMERA_RATE_HZ) for camera in robot.cameras
    )
    return replace(robot, cameras=cameras)
