# SPDX-License-Identifier: Apache-2.0
"""Parameters of the simulated robot."""

from __future__ import annotations

from dataclasses import dataclass

from wam.ros.parameters import parameter
from wam.sim.quality import Quality
from wam.sim.tasks.task import Setting

WALL, PUBLISH = "wall", "publish"


@dataclass(frozen=True, slots=True)
class SimParameters:
    """Parameters of the simulated robot."""

    robot: str = parameter(
        description="robot: a name in config/robots or the path of a YAML file; it needs a model"
    )
    seed: int = parameter(
        0, description="seed of the object placement and of the camera noise", lower=0, upper=2**31 - 1
    )
    task: str = parameter(
        "",
        description="simulated task, one of `wam sim tasks`, or 'free' for none; empty: a table top without episodes",
    )
    setting: str = parameter(
        "seen",
        description="setting of the task: seen, or one of its unseen settings",
        choices=tuple(setting.value for setting in Setting),
    )
    clock: str = parameter(
        WALL,
        description="run on the wall clock, or publish /clock for nodes with use_sim_time",
        choices=(WALL, PUBLISH),
    )
    speed: float = parameter(
        1.0,
        description="simulated time over wall time where /clock is published; 0: as fast as possible",
        lower=0.0,
        upper=100.0,
    )
    state_rate_limit: float = parameter(
        250.0,
        description="maximum rate of the joint states, also where the driver publishes faster (1 kHz for a Franka)",
        unit="Hz",
        lower=10.0,
        upper=1000.0,
    )
    distribution: str = parameter(
        "",
        description="ROS 2 distribution whose trajectory controller is simulated; empty: that of the environment",
        choices=("", "humble", "jazzy", "kilted", "lyrical", "rolling"),
    )
    cameras: bool = parameter(True, description="render the cameras; needs EGL (libegl1, libgl1-mesa-dri)")
    camera_rate: float = parameter(
        0.0,
        description="frame rate of every camera; 0: each camera's own from the robot file",
        unit="Hz",
        lower=0.0,
        upper=120.0,
    )
    camera_latency: float = parameter(
        -1.0,
        description="time from an image's stamp to its publication; negative: each camera's own",
        unit="s",
        lower=-1.0,
        upper=5.0,
    )
    camera_noise: float = parameter(
        0.0,
        description="standard deviation of the pixel noise",
        unit="grey levels",
        lower=0.0,
        upper=128.0,
    )
    camera_drop_rate: float = parameter(
        0.0, description="fraction of the images that are dropped", lower=0.0, upper=1.0
    )
    camera_quality: str = parameter(
        "full",
        description="images: 'fast' without shadows and smooth edges, for a fifth of the time",
        choices=tuple(one.value for one in Quality),
    )
    jpeg_quality: int = parameter(90, description="quality of compressed images", lower=1, upper=100)
    lock_step: bool = parameter(
        False,
        description="run on /clock and acknowledge every step on lock_step, so that a simulation can wait "
        "for this node; needs use_sim_time",
    )
