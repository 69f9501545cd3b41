# SPDX-License-Identifier: Apache-2.0
"""The safety cycle before the twins of a robot's drivers, which it hears and commands late, on injected time."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.errors import JointError
from wam.core.trajectory.rolling import Rolling
from wam.core.trajectory.seam import Seam
from wam.core.verdict import Finding, Ladder
from wam.devices.controllers import TrajectoryDriver
from wam.devices.jtc import Trajectory, TrajectoryPoint
from wam.devices.loader import load_robot
from wam.devices.registry import kind_of, make_drivers, make_watch
from wam.devices.simulated import Moment, Simulated
from wam.devices.twin import DriverAnswer, JointFeedback, MeasuredJoints
from wam.devices.ur.arm import SpeedScaling
from wam.devices.watch import Heard, Seen
from wam.robots.description import CommandKind, Distribution, JointGroup, JointKind, RobotDescription
from wam.robots.joint_reader import JointReader
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.filters import build_chain

Vector = npt.NDArray[np.float64]
Policy = Callable[["DeviceBed", int], Vector]
"""Returns the rows of a chunk whose observation is of this time [ns], float64 [ROWS, N]."""

MS = 1_000_000
ROWS, PERIOD_NS = 24, 33_333_333
CHUNK_MS, INFERENCE_MS = 100, 60
LATENCIES_MS = (2, 9, 4, 14, 1, 6)
"""From the sending of a command to its reception, in turn."""
STATUS_MS = 20
"""From a change of a device's status to its reception."""
OMEGA, AMPLITUDE = 2 * np.pi * 0.4, 0.2
ROOM = 2 * AMPLITUDE
"""Joints that are nearer to a limit at home stay there: the wave goes on from where an arm was led [rad]."""


class Fields:
    """A message of any type: what was written into it; the rest is empty."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, Fields())
        return getattr(self, name)

    def __bool__(self) -> bool:
        return False

    def get_fields_and_field_types(self) -> dict[str, str]:
        return dict.fromkeys(vars(self), "")


def wave(bed: DeviceBed, stamp_ns: int) -> Vector:
    """Chunks of a policy in closed loop: a wave on, from where the arms are seen."""
    times = (stamp_ns - bed.start_ns + np.arange(ROWS) * PERIOD_NS) * 1e-9
    away = AMPLITUDE * (np.sin(OMEGA * times) - np.sin(OMEGA * times[0]))
    return bed.seen(stamp_ns) + away[:, None] * bed.arms


class Device:
    """The twin of one driver, the joints that follow it, and what is heard and said of it.

    Attributes:
        commands: pieces of what the joints were asked to do, a row every `command_s`; a piece ends where they do not
            follow.
        command_s: time between two rows of it [s].
        mute: its joint states do not arrive.
        aside: how far the joints are from their set-point: somebody has moved them, float64 [N].
    """

    def __init__(self, group: JointGroup, columns: slice, driver: Any, *, tick_s: float) -> None:
        self.group, self.columns, self.driver = group, columns, driver
        self.watch = make_watch(group)
        offered = kind_of(group).simulated
        self.simulated = Simulated() if offered is None else offered(group)
        self.trajectories = isinstance(driver, TrajectoryDriver)
        self.cycle_ms = max(1, min(10, round(1000 / group.state_rate)))
        self.command_s = self.cycle_ms * 1e-3 if self.trajectories else tick_s
        self.commands: list[list[Vector]] = [[]]
        self.measured = np.array([joint.home for joint in group.joints])
        self.aside = np.zeros(len(group.joints))
        self.mute = False
        self.told: Finding | None = None
        self.reader = JointReader(group)
        self._reached = self.measured
        self._values: dict[str, Any] = {}
        self._heard_ns = 0
        self._coming: deque[tuple[int, dict[str, Any]]] = deque()

    def ask(self, name: str) -> DriverAnswer:
        """Do what a service of the driver does."""
        return self.call(lambda driver: driver.request(name, measured=self.measured))

    def call(self, ask: Callable[[Any], DriverAnswer]) -> DriverAnswer:
        """Return what `ask` returns for the driver; one that begins anew does so where the joints are."""
        was = self.follows
        answer = ask(self.driver)
        if self.follows and not was:
            self.aside[:] = 0.0
        return answer

    @property
    def follows(self) -> bool:
        """Whether the joints do what is commanded."""
        return bool(self.driver.follows if self.trajectories else self.driver.enabled)

    @property
    def reports(self) -> bool:
        """Whether its driver publishes."""
        return not self.trajectories or bool(self.driver.reports)

    def advance(self) -> None:
        """Let a cycle of the driver pass."""
        if self.trajectories:
            self.driver.observe(MeasuredJoints(self.measured, 0 * self.measured, 0 * self.measured))
        reached = self.driver.advance(self.cycle_ms * 1e-3)
        if self.trajectories or self.follows:
            self._reached = reached
        self.measured = self._reached + self.aside
        if self.trajectories:
            self.note(self.driver.sent if self.follows else None)

    def feedback(self) -> JointFeedback:
        """Return what the driver publishes of the joints."""
        feedback: JointFeedback = self.driver.feedback(
            MeasuredJoints(self.measured, 0 * self.measured, 0 * self.measured)
        )
        return feedback

    def hear(self, now_ns: int) -> tuple[int, Vector] | None:
        """Return stamp [ns] and positions of the joint state that arrives, float64 [N], or None where none does."""
        feedback = self.feedback()
        if self.mute or not self.reports or not feedback.published:
            return None
        message = SimpleNamespace(name=feedback.names, position=feedback.positions, velocity=())
        positions, _ = self.reader.read(message)
        stamp_ns = now_ns - feedback.old_ns
        if self.watch.following is not None:
            self.watch.on_joint_state(Heard(stamp_ns, now_ns, positions=positions))
        return stamp_ns, positions

    def note(self, command: Vector | None) -> None:
        """Note what was commanded last, or that nothing is."""
        if command is not None:
            self.commands[-1].append(command.copy())
        elif self.commands[-1]:
            self.commands.append([])

    def report(self, now_ns: int) -> Finding | None:
        """Return the cause of a device that does not follow, as far as its driver has been heard, or None."""
        moment = Moment(self.group, self.driver.modes, self.feedback())
        said: dict[str, Any] = {}
        for feed in self.watch.deaf_feeds:
            for topic in self.simulated.statuses:
                if topic.topic == feed.topic:
                    message = Fields()
                    topic.fill(message, moment)
                    said |= feed.read(message)
        if self.reports:
            self._coming.append((now_ns + STATUS_MS * MS, said))
        while self._coming and self._coming[0][0] <= now_ns:
            self._heard_ns, self._values = self._coming.popleft()
        seen = Seen(now_ns, self._values, silent_s=(now_ns - self._heard_ns) * 1e-9)
        return self.watch.not_following(seen)


class DeviceBed:
    """A robot whose arms move, and the safety cycle that moves them.

    Args:
        robot: name of the robot file, or its content.
        policy: what makes chunks.
        distribution: whose rules the drivers follow; None takes that of the environment.
    """

    def __init__(
        self,
        robot: str | RobotDescription,
        policy: Policy = wave,
        *,
        distribution: Distribution | None = None,
    ) -> None:
        self.robot = load_robot(robot) if isinstance(robot, str) else robot
        self.policy = policy
        self.settings = settings_for(self.robot, start_by_itself=False)
        self.now_ns = self.start_ns = 10**18
        self.cycle = build_cycle(
            self.robot, self.settings, build_chain(self.robot, model=False), wall=lambda: self.now_ns
        )
        self.home = np.array([joint.home for joint in self.robot.joints])
        self.arms = np.array(
            [
                joint.kind is JointKind.REVOLUTE and joint.lower + ROOM < joint.home < joint.upper - ROOM
                for joint in self.robot.joints
            ],
            dtype=float,
        )
        self.codes: set[str] = set()
        self.rungs: list[Ladder] = []
        self._history: deque[tuple[int, Vector]] = deque(maxlen=1000)
        self._rolling = Rolling(tick_ns=self.settings.tick_ns, lead_ns=self.settings.lead_ns)
        self._coming: list[tuple[int, Callable[[], None]]] = []
        self._scaling, self._scalings = SpeedScaling(), deque([1.0] * (STATUS_MS // 10))
        self._sequence = self._ticks = self._sent = 0
        self._ms = 0
        self._braking = False
        self.devices: dict[str, Device] = {}
        self._seams: dict[str, Seam] = {}
        drivers, start = make_drivers(self.robot, distribution), 0
        for group in self.robot.groups:
            stop = start + len(group.joints)
            self.devices[group.name] = Device(
                group,
                slice(start, stop),
                drivers[group.name],
                tick_s=self.settings.tick_ns * 1e-9,
            )
            if group.command_kind is CommandKind.JOINT_TRAJECTORY:
                self._seams[group.name] = Seam(
                    lead_ns=self.settings.lead_ns,
                    jitter_ns=(max(LATENCIES_MS) - min(LATENCIES_MS)) * MS,
                    acceleration=np.array([joint.acceleration for joint in group.joints]),
                    period_ns=self._every(group) * self.settings.tick_ns,
                    velocity=np.array([joint.velocity for joint in group.joints]),
                    update_ns=round(1e9 / group.state_rate) if kind_of(group).speed_scaling_topic else 0,
                )
            start = stop

    @property
    def measured(self) -> Vector:
        """Where the joints are, float64 [N]."""
        return np.concatenate([one.measured for one in self.devices.values()])

    def seen(self, stamp_ns: int) -> Vector:
        """Return where the joints were, float64 [N]."""
        return next((q for at, q in reversed(self._history) if at <= stamp_ns), self.home)

    def start(self) -> None:
        """Let the arms move, until they do."""
        self.run(0.6)
        self.cycle.resume()
        self.run(1.5)
        assert self.cycle.ladder.rung is Ladder.NOMINAL, self.cycle.ladder.cause

    def clear_fault(self) -> None:
        """Do what `~/clear_fault` does."""
        for device in self.devices.values():
            if device.watch.following is not None:
                device.watch.following.forgive()
        if self.cycle.ladder.stopped:
            self.cycle.clear_fault()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds * 1000)):
            self._ms += 1
            self.now_ns += MS
            if self._ms % CHUNK_MS == 0:
                self._offer_chunk()
            if self._ms % (self.settings.tick_ns // MS) == 0:
                self._tick()
            due = [one for one in self._coming if one[0] <= self.now_ns]
            self._coming = [one for one in self._coming if one[0] > self.now_ns]
            for _, take in due:
                take()
            for device in self.devices.values():
                if self._ms % device.cycle_ms == 0:
                    device.advance()
            self._history.append((self.now_ns, self.measured))

    def _offer_chunk(self) -> None:
        stamp = self.now_ns - INFERENCE_MS * MS
        self._sequence += 1
        chunk = ActionChunk(
            sequence=self._sequence,
            stamp_ns=stamp,
            generation=1,
            contract_hash="a" * 64,
            row_period_ns=PERIOD_NS,
            joint_names=self.robot.joint_names,
            rows=self.policy(self, stamp),
            context_version=1,
            context_age_ns=0,
            phase_offset_rows=3,
        )
        self.cycle.offer_chunk(chunk, arrival_ns=self.now_ns)

    def _tick(self) -> None:
        self._hear()
        result = self.cycle.step(self.now_ns)
        self.codes |= {event.finding.code for event in result.events if event.after >= Ladder.HOLD}
        self.rungs.append(result.rung)
        urgent = self.cycle.braking and not self._braking
        self._braking = self.cycle.braking
        for device in self.devices.values():
            following = device.watch.following
            if following is not None and result.position is None:
                following.interrupted()
            elif following is not None:
                following.commanded(result.position[device.columns], self.now_ns)
            if not device.trajectories:
                device.note(None if result.position is None else result.position[device.columns])
            if result.position is not None:
                self._send(device, result.position, urgent=urgent)
        self._ticks += 1

    def _hear(self) -> None:
        """Hand over joint states and what the drivers report."""
        for name, device in self.devices.items():
            heard = device.hear(self.now_ns)
            if heard is not None:
                self.cycle.offer_state(name, stamp_ns=heard[0], positions=heard[1])
            cause = device.report(self.now_ns)
            if cause is not None and cause != device.told:
                self.cycle.raise_cause(cause, of=name)
            elif device.told is not None and cause is None:
                self.cycle.withdraw_cause("device_not_ready", of=name)
            device.told = cause
            if kind_of(device.group).speed_scaling_topic:
                self._scalings.append(float(device.driver.modes["speed_scaling"]))
                scaling = self._scaling.read(self._scalings.popleft())
                self.cycle.speed_scaling = 0.0 if scaling is None else scaling
                self.cycle.paused = scaling == 0.0

    def _send(self, device: Device, position: Vector, *, urgent: bool) -> None:
        group, columns = device.group, device.columns
        if not device.trajectories:
            sent = position[columns] * group.command_factors
            field = kind_of(group).velocity_field
            told = () if field is None else field(group)
            take = partial(self._take, device.driver.command, group.driver_names, sent.tolist(), told, ())
        elif (self._ticks % self._every(group) and not urgent) or (
            self.cycle.ladder.stopped and self.cycle.standing
        ):
            return
        else:
            seam = self._seams[group.name]
            seam.sent(self.now_ns)
            plan = seam.apply(
                self._rolling.plan(self.cycle),
                columns,
                scaling=self.cycle.speed_scaling,
                rate=self.cycle.rate,
                paused=self.cycle.paused,
                measured=self.measured,
            )
            points = [
                TrajectoryPoint(int(at), p[columns], v[columns], a[columns])
                for at, p, v, a in zip(
                    plan.times_ns, plan.positions, plan.velocities, plan.accelerations, strict=True
                )
            ]
            trajectory = Trajectory(group.driver_names, points)
            take = partial(self._take, device.driver.command_trajectory, trajectory, 0)
        latency = LATENCIES_MS[self._sent % len(LATENCIES_MS)]
        self._sent += 1
        self._coming.append((self.now_ns + latency * MS, take))

    @staticmethod
    def _take(command: Callable[..., None], *arguments: Any) -> None:
        """Hand a command to a driver, which may drop it: its sender is told nothing."""
        with contextlib.suppress(JointError):
            command(*arguments)

    def _every(self, group: JointGroup) -> int:
        return max(1, round(1e9 / self.settings.tick_ns / group.command_rate))
