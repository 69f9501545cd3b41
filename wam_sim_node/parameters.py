# SPDX-License-Identifier: Apache-2.0
"""Parameters of the simulated robot."""

from __future__ import annotations

from dataclasses import dataclass

from wam.ros.parameters import parameter
from wam.sim.tasks.task import Setting

WALL, PUBLISH = "wall", "publish"


@dataclass(frozen=True, slots=True)
class SimParameters:
    """What the simulated robot can be told."""

    robot: str = parameter(
        description="robot: a name in config/robots or the path of a YAML file; it needs a model"
    )
    seed: int = parameter(
        0, description="seed of where the objects lie and of the cameras' noise", lower=0, upper=2**31 - 1
    )
    task: str = parameter(
        "",
        description="task before the robot, one of `wam sim tasks`; empty takes a table top",
    )
    setting: str = parameter(
        "seen",
        description="what the task is set under; the task names those that it has",
        choices=tuple(setting.value for setting in Setting),
    )
    clock: str = parameter(
        WALL,
        description="run on the wall clock, or publish /clock for nodes with use_sim_time",
        choices=(WALL, PUBLISH),
    )
    speed: float = parameter(
        1.0,
        description="simulated over wall time where /clock is published; 0 is as fast as the machine can",
        lower=0.0,
        upper=100.0,
    )
    state_rate_limit: float = parameter(
        250.0,
        description="joint states are published no more often, also where the driver does (1 kHz for a Franka)",
        unit="Hz",
        lower=10.0,
        upper=1000.0,
    )
    distribution: str = parameter(
        "",
        description="ROS 2 distribution whose trajectory controller is simulated; empty takes that of the environment",
        choices=("", "humble", "jazzy", "kilted", "lyrical", "rolling"),
    )
    cameras: bool = parameter(True, description="render the cameras; needs EGL (libegl1, libgl1-mesa-dri)")
    camera_rate: float = parameter(
        0.0,
        description="pictures per second of every camera; 0 takes each camera's own from the robot file",
        unit="Hz",
        lower=0.0,
        upper=120.0,
    )
    camera_latency: float = parameter(
        -1.0,
        description="time from a picture's stamp to its publication; negative takes each camera's own",
        unit="s",
        lower=-1.0,
        upper=5.0,
    )
    camera_noise: float = parameter(
        0.0,
        description="noise of every pixel, standard deviation",
        unit="grey levels",
        lower=0.0,
        upper=128.0,
    )
    camera_drop_rate: float = parameter(
        0.0, description="share of the pictures that are lost", lower=0.0, upper=1.0
    )
    jpeg_quality: int = parameter(90, description="quality of compressed pictures", lower=1, upper=100)
    lock_step: bool = parameter(
        False,
        description="run on /clock and answer every time on lock_step, so that a simulation can wait for this node; "
        "needs use_sim_time",
    )
