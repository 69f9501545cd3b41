# SPDX-License-Identifier: Apache-2.0
"""Parameters of the simulated robot."""

from __future__ import annotations

from dataclasses import dataclass

from wam.ros.parameters import parameter


@dataclass(frozen=True, slots=True)
class SimParameters:
    """What the simulated robot can be told."""

    robot: str = parameter(
        description="robot: a name in config/robots or the path of a YAML file; it needs a model"
    )
    seed: int = parameter(0, description="seed of where the objects lie", lower=0, upper=2**31 - 1)
    cameras: bool = parameter(True, description="render the cameras; needs EGL (libegl1, libgl1-mesa-dri)")
    camera_rate: float = parameter(
        0.0,
        description="pictures per second of every camera; 0 takes each camera's own from the robot file",
        unit="Hz",
        lower=0.0,
        upper=120.0,
    )
    jpeg_quality: int = parameter(90, description="quality of compressed pictures", lower=1, upper=100)
