# SPDX-License-Identifier: Apache-2.0
"""The simulated robot: plumbing between ROS and `SimCycle`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rosgraph_msgs.msg import Clock

from wam.core.clock import NS_PER_S, seconds_to_ns
from wam.core.errors import ConfigError
from wam.core.latency import monotonic_ns
from wam.devices.jtc.parameters import distribution_or_default
from wam.devices.loader import load_robot
from wam.devices.optional import Find, find_type
from wam.robots.camera_spec import CameraSpec
from wam.robots.description import RobotDescription
from wam.ros.conversions import ns_to_time
from wam.ros.diagnostics import DiagnosticLevel, Diagnostics
from wam.ros.lifecycle import WamNode
from wam.ros.lock_step import SteppedWorker, make_worker
from wam.ros.qos import CLOCK
from wam.ros.timers import steady_timer
from wam.ros.worker import Worker
from wam.sim.cycle import SimCycle
from wam.sim.model import TIMESTEP_S
from wam.sim.pace import MAX_STEP_NS, SimTime
from wam.sim.pixels import Degradation
from wam.sim.quality import Quality
from wam.sim.rendering import require_egl
from wam.sim.tasks.world import TaskWorld, make_world
from wam.sim.world import SimWorld
from wam_sim_node.arm import JointTopics, MergedTopic, merged_topics
from wam_sim_node.camera import CameraStream
from wam_sim_node.parameters import PUBLISH, SimParameters
from wam_sim_node.services import DeviceServices, make_services
from wam_sim_node.task import TaskTopics
from wam_sim_node.world import WorldTopic

REPORT_PERIOD_S = 1.0
STOP_TIMEOUT_S = 3.0
SLOW_FACTOR = 0.95
"""A real-time factor below this is reported."""


class SimNode(WamNode[SimParameters]):
    """Lifecycle node `wam_sim`: the topics of a robot's drivers and cameras, from MuJoCo.

    Args:
        vendor: finds vendors' message classes; None looks for their packages.
        node_args: passed to the lifecycle node.
    """

    def __init__(self, *, vendor: Find | None = None, **node_args: Any) -> None:
        super().__init__("wam_sim", SimParameters, **node_args)
        self.cycle: SimCycle | None = None
        self._vendor = vendor or find_type
        self._arms: dict[str, JointTopics] = {}
        self._devices: Mapping[str, DeviceServices] = {}
        self._merged: list[MergedTopic] = []
        self._cameras: dict[str, CameraStream] = {}
        self._task: TaskTopics | None = None
        self._world_topic: WorldTopic | None = None
        self._worker: Worker | SteppedWorker | None = None
        self._time: SimTime | None = None
        self._clock_topic: Any = None
        self._diagnostics: Diagnostics | None = None
        self._entities: list[Callable[[], Any]] = []
        self._fault = ""
        self._refused: set[str] = set()
        self._reached_ns = 0

    def setup(self) -> None:
        """Build the world, then make the topics."""
        p = self.p
        robot = load_robot(p.robot)
        if p.cameras:
            require_egl()
        rate = min(p.state_rate_limit, max(group.state_rate for group in robot.groups))
        self._period = 1.0 / rate
        # A state cannot be published more often than it is computed.
        world = make_world(
            robot, task=p.task, setting=p.setting, seed=p.seed, timestep=min(TIMESTEP_S, self._period)
        )
        cycle = SimCycle(robot, world, distribution=distribution_or_default(p.distribution))
        self.cycle = cycle
        self._make_clock()
        for group in robot.groups:
            self._arms[group.name] = JointTopics(
                self, group, cycle, self._vendor, tick_ns=round(self._period * NS_PER_S)
            )
        self._devices = make_services(self, robot.groups, cycle, self._vendor)
        if isinstance(world, TaskWorld):
            self._task = TaskTopics(self, world, cycle, self._resume)
        self._world_topic = WorldTopic(self, cycle, world.model)
        self._merged = merged_topics(self, robot)
        for camera in robot.cameras if p.cameras else ():
            self._cameras[camera.name] = self._make_camera(camera, world)
        self._diagnostics = Diagnostics(self, task="simulating", hardware_id=f"simulated {robot.name}")
        timer = steady_timer(self, REPORT_PERIOD_S, self._report)
        self._entities += [self._diagnostics.close, partial(self.destroy_timer, timer)]
        self._tell(robot)

    def start(self) -> None:
        """Start simulated time."""
        self._fault = ""
        self._refused.clear()
        for camera in self._cameras.values():
            camera.start()
        self._run_physics()

    def _run_physics(self) -> None:
        if self._time is not None:
            self._time.pause()
        # Faster time means more steps, not longer ones.
        period = self._period / max(1.0, self.p.speed) if self.p.speed else 0.0
        lock_step = self.p.lock_step
        self._worker = make_worker(
            self,
            "physics",
            self._follow_clock if lock_step else self._step,
            period=0.0 if lock_step else period,
            lock_step=lock_step,
            on_error=partial(self._on_error, "physics"),
        )
        self._worker.start()

    def stop(self) -> None:
        """Pause simulated time."""
        late = [name for name, camera in self._cameras.items() if not camera.stop()]
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stop(timeout=STOP_TIMEOUT_S):
            late.append("physics")
        if late:
            self.get_logger().error(
                f"{', '.join(late)} did not end within {STOP_TIMEOUT_S} s and is abandoned"
            )

    def teardown(self) -> None:
        """Remove the topics and release the world."""
        for group in self._arms.values():
            group.close()
        for device in self._devices.values():
            device.close()
        for camera in self._cameras.values():
            camera.close()
        for merged in self._merged:
            merged.close()
        if self._task is not None:
            self._task.close()
        if self._world_topic is not None:
            self._world_topic.close()
        for remove in self._entities:
            remove()
        self._arms, self._devices, self._cameras, self._entities = {}, {}, {}, []
        self.cycle, self._diagnostics, self._merged, self._task = None, None, [], None
        self._time, self._clock_topic, self._world_topic = None, None, None

    def _resume(self) -> str:
        """Resume the physics after an episode in which they diverged; return why if impossible, or ""."""
        if self._worker is None:
            return "the simulated robot is not active; activate it first"
        if self._fault:
            self._worker.stop(timeout=STOP_TIMEOUT_S)
            self._fault = ""
            self._run_physics()
        return ""

    def _make_clock(self) -> None:
        p = self.p
        if p.clock != PUBLISH:
            if p.speed != 1.0:
                raise ConfigError(
                    "parameter speed of a simulation on the wall clock",
                    value=p.speed,
                    allowed="1, or clock: publish",
                    where=f"the parameters `speed` and `clock` of {self.get_fully_qualified_name()}",
                )
            return
        if self.get_parameter("use_sim_time").value:
            raise ConfigError(
                "wam_sim publishes /clock and follows it",
                value="use_sim_time: true",
                allowed="use_sim_time: false, or clock: wall",
                where=f"the parameters of {self.get_fully_qualified_name()}",
            )
        self._time = SimTime(speed=p.speed, step_ns=round(self._period * NS_PER_S), wall=monotonic_ns)
        self._clock_topic = self.create_lifecycle_publisher(Clock, "/clock", CLOCK)
        self._entities.append(partial(self.destroy_lifecycle_publisher, self._clock_topic))

    def _make_camera(self, camera: CameraSpec, world: SimWorld) -> CameraStream:
        p = self.p
        return CameraStream(
            self,
            world.model,
            camera,
            rate=p.camera_rate or camera.rate,
            latency_ns=camera.latency_ns if p.camera_latency < 0 else seconds_to_ns(p.camera_latency),
            quality=Quality(p.camera_quality),
            jpeg_quality=p.jpeg_quality,
            degradation=Degradation(p.seed, camera.name, p.camera_noise, p.camera_drop_rate),
            lockstep=self._time is not None or p.lock_step,
            on_error=partial(self._on_error, f"camera {camera.name}"),
        )

    def _tell(self, robot: RobotDescription) -> None:
        p = self.p
        text = f"{robot.title}, simulated, seed {p.seed}" + (
            f", task {p.task}, {p.setting}" if p.task else ""
        )
        if self._time is not None:
            text += ", /clock at " + (f"{p.speed:g} times wall time" if p.speed else "full speed")
        capped = [group.name for group in robot.groups if group.state_rate > p.state_rate_limit]
        if capped:
            text += f"; joint states of {', '.join(capped)} at {p.state_rate_limit:g} Hz (state_rate_limit)"
        self.get_logger().info(text)

    def _follow_clock(self) -> None:
        """Step through the time that has passed on /clock, at the rate of the states; images go out with it."""
        now_ns, before_ns = self.clock.now_ns(), self._reached_ns
        step_ns = round(self._period * NS_PER_S)
        if not 0 <= now_ns - before_ns <= MAX_STEP_NS:
            before_ns = now_ns - step_ns
        for moment_ns in range(before_ns + step_ns, now_ns + 1, step_ns):
            self._step_to(moment_ns)
            self._reached_ns = moment_ns
        for camera in self._cameras.values():
            camera.drain()

    def _step(self) -> None:
        self._step_to(self.clock.now_ns() if self._time is None else self._time.advance())

    def _step_to(self, now_ns: int) -> None:
        cycle, time = self.cycle, self._time
        assert cycle is not None
        for arm in self._arms.values():
            arm.read()
        result = cycle.step(now_ns, wall_ns=None if time is None else monotonic_ns())
        if self._clock_topic is not None:
            # Published before any message with this stamp: a subscriber must not see a stamp from the future.
            self._clock_topic.publish(Clock(clock=ns_to_time(now_ns)))
        for group, output in result.outputs.items():
            self._arms[group].publish(output, result.stamp_ns)
            if group in self._devices:
                self._devices[group].publish(output, result.stamp_ns)
        for merged in self._merged:
            merged.publish(result.outputs, result.stamp_ns)
        if self._task is not None:
            self._task.publish(result.stamp_ns)
        if self._world_topic is not None:
            self._world_topic.publish(result.stamp_ns)
        for camera in self._cameras.values():
            camera.tick(now_ns, cycle.snapshot)
        for error in result.refused:
            if error.what not in self._refused:
                self._refused.add(error.what)
                self.get_logger().warning(f"command refused: {error}")

    def _on_error(self, part: str, error: Exception) -> None:
        self._fault = f"{part}: {error}"
        self.get_logger().error(f"{part} stopped: {type(error).__name__}: {error}")
        if self._task is not None:
            self._task.fail(self._fault)

    def _report(self) -> None:
        cycle, diagnostics = self.cycle, self._diagnostics
        if cycle is None or diagnostics is None:
            return
        factor = cycle.realtime_factor()
        values: dict[str, object] = {
            "realtime_factor": f"{factor:.3f}",
            "physics_steps": cycle.steps,
            "lost_time [s]": f"{cycle.lost_ns * 1e-9:.3f}",
            "commands_refused": cycle.refused,
        }
        for name, camera in self._cameras.items():
            values[f"{name}_pictures"] = camera.pictures
            values[f"{name}_pictures_left_out"] = camera.left_out
            values[f"{name}_render_time_p50 [s]"] = f"{camera.render_time.percentile(50):.4f}"
            values[f"{name}_render_time_p99 [s]"] = f"{camera.render_time.percentile(99):.4f}"
        values |= self.inputs.values()
        if self._worker is None:
            level, text = DiagnosticLevel.OK, "inactive"
        elif self._fault:
            level, text = DiagnosticLevel.ERROR, self._fault
        elif factor < SLOW_FACTOR * (self.p.speed or 1.0):
            level, text = (
                DiagnosticLevel.WARN,
                f"slower than requested: real-time factor {factor:.2f}, requested {self.p.speed or 1.0:g}",
            )
        else:
            level, text = DiagnosticLevel.OK, "simulating"
        diagnostics.report(level, text, values)
