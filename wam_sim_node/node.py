# SPDX-License-Identifier: Apache-2.0
"""The simulated robot: plumbing between ROS and `SimCycle`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from wam.robots.loader import load_robot
from wam.ros.diagnostics import Diagnostics, Level
from wam.ros.lifecycle import WamNode
from wam.ros.worker import Worker
from wam.sim.rendering import require_egl
from wam.sim.world import SimWorld
from wam_sim_node.arm import DriverTopics, make_topics
from wam_sim_node.camera import CameraStream
from wam_sim_node.cycle import SimCycle
from wam_sim_node.parameters import SimParameters

REPORT_PERIOD_S = 1.0
STOP_TIMEOUT_S = 3.0
MAX_RATE_HZ = 250.0
"""Joint states are published no more often, also where the driver does: a Python subscriber has no use for 1 kHz."""
SLOW_FACTOR = 0.95
"""A real-time factor below this is told."""


class SimNode(WamNode[SimParameters]):
    """Lifecycle node `wam_sim`: the topics of a robot's drivers and cameras, from MuJoCo.

    Args:
        node_args: passed to the lifecycle node.
    """

    def __init__(self, **node_args: Any) -> None:
        super().__init__("wam_sim", SimParameters, **node_args)
        self.cycle: SimCycle | None = None
        self._arms: dict[str, DriverTopics] = {}
        self._cameras: dict[str, CameraStream] = {}
        self._worker: Worker | None = None
        self._diagnostics: Diagnostics | None = None
        self._entities: list[Callable[[], Any]] = []
        self._fault = ""
        self._refused: set[str] = set()

    def setup(self) -> None:
        """Build the world, then make the topics."""
        p = self.p
        robot = load_robot(p.robot)
        if p.cameras:
            require_egl()
        world = SimWorld(robot, seed=p.seed)
        cycle = SimCycle(robot, world)
        self.cycle = cycle
        for group in robot.groups:
            self._arms[group.name] = make_topics(self, group, cycle)
        for camera in robot.cameras if p.cameras else ():
            self._cameras[camera.name] = CameraStream(
                self,
                world.model,
                camera,
                rate=p.camera_rate or camera.rate,
                jpeg_quality=p.jpeg_quality,
                snapshot=cycle.snapshot,
                on_error=partial(self._on_error, f"camera {camera.name}"),
            )
        self._period = 1.0 / min(MAX_RATE_HZ, max(group.state_rate for group in robot.groups))
        self._diagnostics = Diagnostics(self, task="simulating", hardware_id=f"simulated {robot.name}")
        timer = self.create_timer(REPORT_PERIOD_S, self._report)
        self._entities = [self._diagnostics.close, partial(self.destroy_timer, timer)]
        self.get_logger().info(f"{robot.title}, simulated, seed {p.seed}")

    def start(self) -> None:
        """Let time run."""
        self._fault = ""
        self._refused.clear()
        for camera in self._cameras.values():
            camera.start()
        self._worker = Worker(
            "physics", self._step, period=self._period, on_error=partial(self._on_error, "physics")
        )
        self._worker.start()

    def stop(self) -> None:
        """Let time stand still."""
        late = [name for name, camera in self._cameras.items() if not camera.stop()]
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stop(timeout=STOP_TIMEOUT_S):
            late.append("physics")
        if late:
            self.get_logger().error(
                f"{', '.join(late)} did not end within {STOP_TIMEOUT_S} s and is left behind"
            )

    def teardown(self) -> None:
        """Remove the topics and forget the world."""
        for part in (*self._arms.values(), *self._cameras.values()):
            part.close()
        for remove in self._entities:
            remove()
        self._arms, self._cameras, self._entities = {}, {}, []
        self.cycle, self._diagnostics = None, None

    def _step(self) -> None:
        assert self.cycle is not None
        result = self.cycle.step(self.clock.now_ns())
        for group, output in result.outputs.items():
            self._arms[group].publish(output, result.stamp_ns)
        for error in result.refused:
            if error.what not in self._refused:
                self._refused.add(error.what)
                self.get_logger().warning(f"command refused: {error}")

    def _on_error(self, part: str, error: Exception) -> None:
        self._fault = f"{part}: {error}"
        self.get_logger().error(f"{part} stopped: {type(error).__name__}: {error}")

    def _report(self) -> None:
        cycle, diagnostics = self.cycle, self._diagnostics
        if cycle is None or diagnostics is None:
            return
        factor = cycle.realtime_factor()
        values: dict[str, object] = {
            "realtime_factor": f"{factor:.3f}",
            "physics_steps": cycle.steps,
            "lost_time [s]": f"{cycle.lost_ns * 1e-9:.3f}",
        }
        for name, camera in self._cameras.items():
            values[f"{name}_pictures"] = camera.pictures
            values[f"{name}_render_time_p50 [s]"] = f"{camera.render_time.percentile(50):.4f}"
            values[f"{name}_render_time_p99 [s]"] = f"{camera.render_time.percentile(99):.4f}"
        if self._worker is None:
            level, text = Level.OK, "inactive"
        elif self._fault:
            level, text = Level.ERROR, self._fault
        elif factor < SLOW_FACTOR:
            level, text = (
                Level.WARN,
                f"slower than real time: factor {factor:.2f}, lowest wanted {SLOW_FACTOR}",
            )
        else:
            level, text = Level.OK, "simulating"
        diagnostics.report(level, text, values)
