# SPDX-License-Identifier: Apache-2.0
"""The table of safety filters, and the chain built from it. No rclpy.

A filter in this package is one class and one row of `FILTERS`. A filter in another package is named in the parameter
`extra_filters` by the path of its factory, "module:factory"; it runs after the rows of the table. The safety node,
offline replay and evaluation all build their chain with `build_chain`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from wam.core.errors import ConfigError
from wam.core.parameters import parameter
from wam.core.safety.chain import SafetyChain
from wam.core.safety.collision import CollisionFilter
from wam.core.safety.filters import (
    Filter,
    FiniteFilter,
    JumpFilter,
    PositionFilter,
    SlowingFilter,
)
from wam.core.safety.limits import JointLimits
from wam.robots.collision import ENVIRONMENT_MARGIN, MARGIN, PinocchioChecker
from wam.robots.description import JointKind, RobotDescription
from wam.robots.measured_check import MeasuredCheck
from wam.robots.tool_points import ToolPoints
from wam.robots.tool_speed import Approach, SpeedLimits
from wam.robots.yaml_reader import place_of
from wam.robots.zones import WorkspaceFilter, Zone, ZoneFilter, make_zone, parse_box, parse_zone
from wam.runtime.safety.extra_filters import make_extra_filter


@dataclass(frozen=True, slots=True)
class ChainOptions:
    """Options of the safety chain. The safety node declares them as ROS parameters."""

    filters_off: tuple[str, ...] = parameter(
        (), description="filters of the safety chain that are switched off, each by its name"
    )
    max_scale: float = parameter(
        4.0,
        description="a chunk that would have to be slowed by more than this factor is refused",
        unit="1",
        lower=1.0,
        upper=20.0,
    )
    collision_margin: float = parameter(
        MARGIN, description="distance kept between two moving bodies", unit="m", lower=0.0, upper=0.2
    )
    environment_margin: float = parameter(
        ENVIRONMENT_MARGIN,
        description="distance kept between a moving body and a fixed one",
        unit="m",
        lower=0.0,
        upper=0.2,
    )
    workspace: tuple[str, ...] = parameter(
        (),
        description="boxes that tools must not leave, in the base link of their group, each as "
        "GROUP XMIN XMAX YMIN YMAX ZMIN ZMAX",
        unit="m",
    )
    zones: tuple[str, ...] = parameter(
        (),
        description="boxes in the root link that the tip, the end of the tool and the elbow of a group must not enter, "
        "each as stop TARGET XMIN XMAX YMIN YMAX ZMIN ZMAX, or must be slow in, as slow SPEED TARGET XMIN ...; "
        "TARGET is a group, `all` or a link; they add to `zones` of the robot file",
        unit="m, m/s",
    )
    max_tcp_speed: float = parameter(
        0.0,
        description="largest speed of any tip, end of a tool or elbow; plans are played more slowly; 0 for no limit",
        unit="m/s",
        lower=0.0,
        upper=10.0,
    )
    slow_distance: float = parameter(
        0.0,
        description="an arm that comes closer than this to another arm or a fixed body is slowed; 0 for never",
        unit="m",
        lower=0.0,
        upper=2.0,
    )
    slow_distance_near: float = parameter(
        0.02, description="distance at which it is slowest", unit="m", lower=0.0, upper=2.0
    )
    slow_share: float = parameter(
        0.2, description="share of its speed that it keeps there", unit="1", lower=0.01, upper=1.0
    )
    extra_filters: tuple[str, ...] = parameter(
        (),
        description="factories of filters from other packages, each as MODULE:FACTORY; they run last, in this order",
    )


class FilterInputs:
    """What the factory of a filter may use.

    Args:
        robot: limits, groups and, where it has one, the model.
        options: options of the chain.
        model: False hides the robot's model, so that filters that need it are left out.
    """

    def __init__(self, robot: RobotDescription, options: ChainOptions, *, model: bool = True) -> None:
        self.robot = robot
        self.options = options
        self._model = model

    @cached_property
    def limits(self) -> JointLimits:
        """Limits of all joints, in the robot's order."""
        return self.robot.limits()

    @property
    def free(self) -> npt.NDArray[np.bool_]:
        """Which joints may jump, bool [N]; see `free_joints`."""
        return free_joints(self.robot)

    @cached_property
    def checker(self) -> PinocchioChecker | None:
        """Collision checker and kinematics, None for a robot without a model.

        Raises:
            MissingDependency: Pinocchio is not installed.
        """
        if self.robot.urdf is None or not self._model:
            return None
        options = self.options
        return PinocchioChecker(
            self.robot, margin=options.collision_margin, environment_margin=options.environment_margin
        )

    @cached_property
    def points(self) -> ToolPoints | None:
        """Tips, tool ends and elbows, None for a robot without a model.

        Raises:
            MissingDependency: Pinocchio is not installed.
        """
        return None if self.checker is None else ToolPoints(self.checker.model, self.checker.pinocchio[2])

    @cached_property
    def zones(self) -> tuple[Zone, ...]:
        """The zones of the robot file, then those of the options; without a model there are none.

        Raises:
            ConfigError: a zone is illegal.
        """
        points, file = self.points, self.robot.source
        if points is None:
            return ()
        own = (make_zone(zone, points, place_of(file, "zones", i)) for i, zone in enumerate(self.robot.zones))
        return (*own, *(parse_zone(text, points) for text in self.options.zones))


FilterFactory = Callable[[FilterInputs], Filter | None]
"""Makes a filter for a robot; None where the robot lacks what the filter needs (a model)."""


@dataclass(frozen=True, slots=True)
class FilterRow:
    """One line of the table.

    Attributes:
        name: name of the filter.
        make: its factory.
        effect: verdicts and what they mean, for the documentation.
        parameters: fields of `ChainOptions` that the factory reads.
    """

    name: str
    make: FilterFactory
    effect: str
    parameters: tuple[str, ...] = ()


def _finite(inputs: FilterInputs) -> Filter:
    return FiniteFilter(inputs.limits.joint_names)


def _position(inputs: FilterInputs) -> Filter:
    limits = inputs.limits
    gross = np.where(inputs.free, np.inf, np.minimum(limits.upper - limits.lower, np.pi))
    return PositionFilter(limits, gross)


def _jump(inputs: FilterInputs) -> Filter:
    max_jump = np.where(inputs.free, np.inf, inputs.robot.safety.max_jump)
    # Rows that are faster than those which the chain slows are refused by it.
    return JumpFilter(inputs.limits.joint_names, max_jump, inputs.limits.velocity * inputs.options.max_scale)


def _slowing(inputs: FilterInputs, *, order: int, name: str) -> Filter:
    paced = np.flatnonzero(~inputs.free)
    return SlowingFilter(inputs.limits.select(paced), paced, (order,), inputs.options.max_scale, name=name)


def _collision(inputs: FilterInputs) -> Filter | None:
    if inputs.checker is None:
        return None
    return CollisionFilter(inputs.checker)


def _workspace(inputs: FilterInputs) -> Filter | None:
    points = inputs.points
    if points is None:
        return None
    boxes = tuple(parse_box(text, points) for text in inputs.options.workspace)
    return WorkspaceFilter(points, boxes)


def _zones(inputs: FilterInputs) -> Filter | None:
    points = inputs.points
    return None if points is None else ZoneFilter(points, inputs.zones)


SLOWED = "SCALED, all joints by one factor; HOLD beyond `max_scale`"

FILTERS: tuple[FilterRow, ...] = (
    FilterRow("finite", _finite, "STOP for NaN or infinity"),
    FilterRow("position", _position, "CLAMPED to the limit; STOP far outside"),
    FilterRow("jump", _jump, "HOLD where no row since the observation is near the measured state"),
    FilterRow("velocity", partial(_slowing, order=1, name="velocity"), SLOWED, ("max_scale",)),
    FilterRow("acceleration", partial(_slowing, order=2, name="acceleration"), SLOWED, ("max_scale",)),
    FilterRow("jerk", partial(_slowing, order=3, name="jerk"), SLOWED, ("max_scale",)),
    FilterRow(
        "collision",
        _collision,
        "STOP; HOLD where the checker does not answer",
        ("collision_margin", "environment_margin"),
    ),
    FilterRow("workspace", _workspace, "STOP where a tool leaves its box", ("workspace",)),
    FilterRow("zones", _zones, "STOP where a tool or an elbow enters a stop zone", ("zones",)),
)
"""The filters of this package, in the order in which they run."""


def free_joints(robot: RobotDescription) -> npt.NDArray[np.bool_]:
    """Return which joints may jump, bool [N].

    A gripper may be blocked by what it holds, and may open or close from one row to the next.
    """
    return np.array([joint.kind is not JointKind.REVOLUTE for joint in robot.joints])


def build_filters(
    robot: RobotDescription, options: ChainOptions | None = None, *, model: bool = True
) -> tuple[Filter, ...]:
    """Return the filters for `robot`: the rows of `FILTERS`, then the extra filters.

    Args:
        robot: limits, groups and budgets; without a model, filters that need one are left out.
        options: options of the chain; None takes the defaults.
        model: False leaves out the filters that need the robot's model.

    Raises:
        ConfigError: a workspace box is illegal, or an extra filter cannot be made; the text says which.
        MissingDependency: Pinocchio is not installed.
    """
    options = options or ChainOptions()
    inputs = FilterInputs(robot, options, model=model)
    made = [row.make(inputs) for row in FILTERS]
    made += [make_extra_filter(path, inputs) for path in options.extra_filters]
    return tuple(one for one in made if one is not None)


def build_chain(
    robot: RobotDescription, options: ChainOptions | None = None, *, model: bool = True
) -> SafetyChain:
    """Return the safety chain for `robot`; arguments are those of `build_filters`.

    Raises:
        ConfigError: as `build_filters`; or two filters have one name, or `filters_off` names an unknown filter.
        MissingDependency: Pinocchio is not installed.
    """
    filters = build_filters(robot, options, model=model)
    return SafetyChain(filters, off=() if options is None else options.filters_off)


def build_speed_limits(
    robot: RobotDescription, options: ChainOptions | None = None, *, model: bool = True
) -> SpeedLimits | None:
    """Return what caps the rate at which plans are played; None for a robot without a model.

    It owns a checker of its own. Arguments are those of `build_filters`.

    Raises:
        ConfigError: a zone is illegal, or `slow_distance` is not above `slow_distance_near`.
        MissingDependency: Pinocchio is not installed.
    """
    options = options or ChainOptions()
    inputs = FilterInputs(robot, options, model=model)
    points, approach = inputs.points, None
    if points is None:
        return None
    if options.slow_distance > 0.0:
        if options.slow_distance <= options.slow_distance_near:
            raise ConfigError(
                "slow_distance is not above slow_distance_near",
                value=f"{options.slow_distance:g} and {options.slow_distance_near:g} m",
                allowed="slow_distance > slow_distance_near, or 0",
                where="the parameters of the safety node",
            )
        approach = Approach(options.slow_distance, options.slow_distance_near, options.slow_share)
    return SpeedLimits(
        points,
        zones=inputs.zones,
        max_speed=options.max_tcp_speed,
        approach=approach,
        checker=inputs.checker,
    )


def build_measured_check(
    robot: RobotDescription, options: ChainOptions | None = None
) -> MeasuredCheck | None:
    """Return the check of the measured arm; None for a robot without a model.

    A filter that is switched off is not applied to the measured arm either. It owns a checker of its own. Arguments
    are those of `build_filters`.

    Raises:
        ConfigError: a workspace box or a zone is illegal.
        MissingDependency: Pinocchio is not installed.
    """
    options = options or ChainOptions()
    inputs = FilterInputs(robot, options)
    if inputs.points is None:
        return None
    off = options.filters_off
    boxes = tuple(parse_box(text, inputs.points) for text in options.workspace)
    return MeasuredCheck(
        None if "collision" in off else inputs.checker,
        inputs.points,
        boxes=() if "workspace" in off else boxes,
        zones=() if "zones" in off else inputs.zones,
    )
