# SPDX-License-Identifier: Apache-2.0
"""Puts a safety cycle together for a robot. No rclpy."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.errors import ConfigError
from wam.core.safety.chain import SafetyChain, joint_filters
from wam.core.safety.collision import CollisionFilter, RemoteChecker
from wam.core.safety.filters import Filter
from wam.core.safety.tracking import TrackingWatch
from wam.robots.description import CommandKind, JointKind, RobotDescription
from wam.runtime.safety.cycle import SafetyCycle
from wam.runtime.safety.intake import ChunkIntake, CycleSettings
from wam.runtime.safety.measured import MeasuredState

STREAM_RATE = 100.0
"""Rate of the command stream where no group asks for another [Hz]."""

MAX_RATE = 250.0

COLLISION_MARGIN = 0.01
"""Distance kept between two moving bodies [m]."""

ENVIRONMENT_MARGIN = 0.0
"""Distance kept between a moving body and a fixed one [m]."""


def stream_rate(robot: RobotDescription) -> float:
    """Return the rate of the command stream [Hz]: the highest that a streamed group asks for.

    Raises:
        ConfigError: no group is commanded, or a rate is beyond what a Python thread keeps.
    """
    commanded = [group for group in robot.groups if group.command_kind is not CommandKind.NONE]
    if not commanded:
        raise ConfigError(
            f"robot {robot.name} has no commanded joint group: it is a recorded robot",
            allowed="a command topic in at least one group",
            where=str(robot.source),
        )
    rates = [one.command_rate for one in commanded if one.command_kind is CommandKind.JOINT_STATE_STREAM]
    rate = max(rates, default=STREAM_RATE)
    if rate > MAX_RATE:
        raise ConfigError(
            "command rate", value=f"{rate:g} Hz", allowed=f"at most {MAX_RATE:g} Hz", where=str(robot.source)
        )
    return rate


def settings_for(robot: RobotDescription, **changes: object) -> CycleSettings:
    """Return the settings that `robot` asks for; `changes` are fields of `CycleSettings`."""
    budget = robot.safety
    values: dict[str, object] = {
        "tick_ns": changes.get("tick_ns") or round(NS_PER_S / stream_rate(robot)),
        "lead_ns": budget.lead_ns,
        "blend_ns": budget.blend_ns,
        "chunk_timeout_ns": budget.chunk_timeout_ns,
    }
    return CycleSettings(**{**values, **changes})  # type: ignore[arg-type]


def build_cycle(
    robot: RobotDescription,
    settings: CycleSettings,
    *,
    filters_off: tuple[str, ...] = (),
    max_scale: float = 4.0,
    contract_hash: str = "",
    extra_filters: tuple[Filter, ...] = (),
    remote: RemoteChecker | None = None,
    remote_budget_ns: int = 0,
    wall: Callable[[], int] = time.monotonic_ns,
) -> SafetyCycle:
    """Return the cycle of the safety node for `robot`.

    Args:
        robot: limits, groups and budgets.
        settings: times and strategy.
        filters_off: names of filters that are switched off.
        max_scale: a chunk that would have to be slowed more is refused.
        contract_hash: the only contract let in; "" takes that of the first chunk.
        extra_filters: filters that need more than joint limits (workspace, collision), run last.
        remote: a collision checker in another process that is asked as well, or None.
        remote_budget_ns: it must answer within this time [ns].
        wall: monotonic time [ns].

    Raises:
        ConfigError: `filters_off` names a filter that does not exist.
    """
    limits = robot.limits()
    free = _free_joints(robot)
    filters = filters_for(robot, max_scale=max_scale)
    return SafetyCycle(
        limits=limits,
        measured=MeasuredState(robot),
        intake=ChunkIntake(
            limits=limits,
            chain=SafetyChain(filters + extra_filters, off=filters_off),
            settings=settings,
            leads_ns=np.array([group.command_lead_ns for group in robot.groups for _ in group.joints]),
            smoothing=np.where(free, np.inf, limits.acceleration),
            contract_hash=contract_hash,
        ),
        settings=settings,
        tracking=TrackingWatch(robot.joint_names, np.where(free, np.inf, robot.safety.tracking_error)),
        wall=wall,
        remote=remote,
        remote_budget_ns=remote_budget_ns,
    )


def model_filters(
    robot: RobotDescription,
    *,
    collision_margin: float = COLLISION_MARGIN,
    environment_margin: float = ENVIRONMENT_MARGIN,
    workspace: tuple[str, ...] = (),
) -> tuple[Filter, ...]:
    """Return the filters that need the robot's model: none for a robot without one.

    Args:
        robot: with its URDF.
        collision_margin: distance kept between two moving bodies [m].
        environment_margin: distance kept between a moving body and a fixed one [m].
        workspace: boxes that tools must not leave, as the parameter of the safety node.

    Raises:
        ConfigError: a box is illegal.
        MissingDependency: Pinocchio is not installed.
    """
    if robot.urdf is None:
        return ()
    from wam.robots.collision import PinocchioChecker, WorkspaceFilter, parse_box

    checker = PinocchioChecker(robot, margin=collision_margin, environment_margin=environment_margin)
    boxes = tuple(parse_box(text, robot) for text in workspace)
    return (CollisionFilter(checker, robot.limits()), WorkspaceFilter(checker.model, boxes))


def filters_for(robot: RobotDescription, *, max_scale: float = 4.0) -> tuple[Filter, ...]:
    """Return the filters that need joint limits only.

    Args:
        robot: limits and budgets.
        max_scale: a chunk that would have to be slowed more is refused.
    """
    limits = robot.limits()
    free = _free_joints(robot)
    max_jump = np.where(free, np.inf, robot.safety.max_jump)
    gross = np.where(free, np.inf, np.minimum(limits.upper - limits.lower, np.pi))
    return joint_filters(
        limits, max_jump=max_jump, gross=gross, paced=np.flatnonzero(~free), max_scale=max_scale
    )


def _free_joints(robot: RobotDescription) -> npt.NDArray[np.bool_]:
    """Return which joints may jump: a gripper may be blocked by what it holds, and may open or close from one row
    to the next.
    """
    return np.array([joint.kind is not JointKind.REVOLUTE for joint in robot.joints])
