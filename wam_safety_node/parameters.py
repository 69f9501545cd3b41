# SPDX-License-Identifier: Apache-2.0
"""Parameters of the safety node."""

from __future__ import annotations

from dataclasses import dataclass

from wam.core.chunk.splice import Strategy
from wam.ros.parameters import parameter
from wam.runtime.safety.build import COLLISION_MARGIN, ENVIRONMENT_MARGIN


@dataclass(frozen=True, slots=True)
class SafetyParameters:
    """What the safety node can be told. Limits, deadlines and distances are those of the robot file."""

    robot: str = parameter(description="robot: a name in config/robots or the path of a YAML file")
    dry_run: bool = parameter(
        True,
        description="compute and check everything, send nothing; ~/command_preview shows what would be sent",
    )
    contract: str = parameter(
        "",
        description="contract hash (SHA-256, hex) of the only policy that may move the robot; empty takes that of "
        "the first chunk",
    )
    strategy: str = parameter(
        Strategy.BLEND.value,
        description="how a chunk takes over from the one before it",
        choices=tuple(one.value for one in Strategy),
    )
    filters_off: tuple[str, ...] = parameter(
        (), description="filters of the safety chain that are switched off, each by its name"
    )
    max_scale: float = parameter(
        4.0,
        description="a chunk that would have to be slowed more than this is refused",
        unit="1",
        lower=1.0,
        upper=20.0,
    )
    collision_margin: float = parameter(
        COLLISION_MARGIN,
        description="distance kept between two moving bodies",
        unit="m",
        lower=0.0,
        upper=0.2,
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
    moveit: str = parameter(
        "off",
        description="ask MoveIt about every trajectory as well: a planning scene in a helper process (moveit_py), or a "
        "running move_group; without its answer the arm holds",
        choices=("off", "process", "move_group"),
    )
    moveit_group: str = parameter("", description="planning group that MoveIt judges; empty: the whole robot")
    moveit_params: tuple[str, ...] = parameter(
        (),
        description="parameter files of the MoveIt helper (robot_description, robot_description_semantic, ...)",
    )
    moveit_budget: float = parameter(
        0.08, description="MoveIt must answer within this time", unit="s", lower=0.01, upper=1.0
    )
    max_context_age: float = parameter(
        1.0, description="an older planner context means LATE", unit="s", lower=0.01, upper=60.0
    )
    latch_driver_loss: bool = parameter(
        False,
        description="a driver that has gone (no publisher of joint states any more) is STOP, cleared by hand, not HOLD",
    )
    speed_scaling_topic: str = parameter(
        "",
        description="std_msgs/Float64 with the robot's speed scaling, relative; empty takes the UR driver's for a UR",
    )
    chunk_topic: str = parameter("wam_executor/chunk", description="topic of the action chunks, relative")
    estop_topic: str = parameter("estop", description="std_msgs/Bool, true stops the arm; relative")
    lock_step: bool = parameter(
        False,
        description="run on /clock and answer every time on lock_step, so that a simulation can wait for this node; "
        "needs use_sim_time",
    )
