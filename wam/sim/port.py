# SPDX-License-Identifier: Apache-2.0
"""The drivers of a simulated robot without ROS: joint targets in, physics stepped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.errors import JointError
from wam.devices.controllers import TrajectoryDriver
from wam.devices.jtc import Trajectory, TrajectoryPoint
from wam.devices.registry import make_drivers
from wam.devices.twin import DriverTwin, JointFeedback
from wam.sim.world import SimWorld

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class JointTargets:
    """Targets of all joints of a robot at one moment, in the robot's order and SI units.

    Attributes:
        positions: float64 [N] [rad or m].
        velocities: float64 [N], rate of change at that moment [rad/s or m/s].
    """

    positions: Vector
    velocities: Vector

    def __post_init__(self) -> None:
        if self.positions.ndim != 1 or self.positions.shape != self.velocities.shape:
            raise ValueError(
                f"positions have shape {self.positions.shape}, velocities {self.velocities.shape}: not [N] both"
            )


class RobotPort:
    """Commands the driver twins of a robot by the rules of their topics, on simulated time. One thread at a time.

    An arm behind a trajectory controller gets the messages that a streaming node would send: the next target with its
    velocity, and a stop after it that the next message replaces.

    Args:
        world: the robot's world.
    """

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._timestep_ns = round(world.timestep * NS_PER_S)
        self.restart()

    @property
    def now_ns(self) -> int:
        """Simulated time since `restart` [ns]."""
        return self._steps * self._timestep_ns

    def restart(self) -> None:
        """Restart the drivers; call it after the world's reset."""
        robot = self._world.robot
        self._drivers: dict[str, DriverTwin] = make_drivers(robot)
        self._steps = 0

    def feedback(self) -> Mapping[str, JointFeedback]:
        """Return joint group -> what its driver publishes at this moment."""
        return {name: driver.feedback(self._world.measured(name)) for name, driver in self._drivers.items()}

    def command(self, targets: JointTargets, *, period_ns: int) -> None:
        """Command `targets` for `period_ns` [ns] from now.

        Raises:
            JointError: a value is not finite, or there are not as many as joints; nothing was commanded.
        """
        robot = self._world.robot
        if len(targets.positions) != len(robot.joints) or not np.all(np.isfinite(targets.positions)):
            raise JointError(
                f"targets of {robot.name}",
                value=targets.positions.tolist(),
                allowed=f"{len(robot.joints)} finite positions",
                where="the expert or policy that acts",
            )
        begin = 0
        for group in robot.groups:
            columns = slice(begin, begin + len(group.joints))
            begin = columns.stop
            driver = self._drivers[group.name]
            positions, velocities = targets.positions[columns], targets.velocities[columns]
            if isinstance(driver, TrajectoryDriver):
                measured = self._world.measured(group.name)
                driver.observe(measured)
                message = _stream_message(group.driver_names, positions, velocities, period_ns)
                driver.command_trajectory(message, self.now_ns)
            else:
                driver.command(group.driver_names, (positions * group.command_factors).tolist(), (), ())
                self._world.set_force(group.name, driver.force_fractions)

    def advance(self, duration_ns: int) -> None:
        """Run firmware and physics for `duration_ns` [ns], in whole physics steps.

        Raises:
            WorldDiverged: the physics are no longer finite.
        """
        world = self._world
        for driver_name, driver in self._drivers.items():
            if isinstance(driver, TrajectoryDriver):
                driver.observe(world.measured(driver_name))
        for _ in range(duration_ns // self._timestep_ns):
            for name, driver in self._drivers.items():
                world.set_targets(name, driver.advance(world.timestep), driver.setpoint_velocity)
            world.step()
            self._steps += 1


def _stream_message(
    names: tuple[str, ...], positions: Vector, velocities: Vector, period_ns: int
) -> Trajectory:
    """Return a target and the stop behind it: the controller takes no trajectory that ends moving."""
    stop = positions + velocities * (period_ns / NS_PER_S / 2)
    still = np.zeros_like(velocities)
    return Trajectory(
        names,
        [
            TrajectoryPoint(period_ns, positions.tolist(), velocities.tolist()),
            TrajectoryPoint(2 * period_ns, stop.tolist(), still.tolist()),
        ],
    )
