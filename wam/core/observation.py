# SPDX-License-Identifier: Apache-2.0
"""What a policy sees: images and joint state at one reference time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from wam.core.errors import JointError

Rgb = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float64]

MAX_INSTRUCTION_CHARS = 256


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """One image of one camera.

    Attributes:
        camera: name of the camera in the robot file.
        stamp_ns: acquisition time [ns].
        rgb: uint8 [H, W, 3], red first; read-only.
    """

    camera: str
    stamp_ns: int
    rgb: Rgb

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8:
            raise ValueError(
                f"rgb of {self.camera!r} is {self.rgb.dtype}{self.rgb.shape}, not uint8 [H, W, 3]"
            )
        self.rgb.flags.writeable = False


@dataclass(frozen=True, slots=True)
class RobotState:
    """Measured joint state, merged over all joint groups of a robot.

    Attributes:
        stamp_ns: acquisition time of the oldest group in it [ns].
        joint_names: policy-side names, e.g. "left_joint1".
        positions: float64 [N]; rad for revolute, m for prismatic joints.
        velocities: float64 [N]; rad/s or m/s; NaN where the driver reports none.
    """

    stamp_ns: int
    joint_names: tuple[str, ...]
    positions: Vector
    velocities: Vector

    def __post_init__(self) -> None:
        n = len(self.joint_names)
        for label, array in (("positions", self.positions), ("velocities", self.velocities)):
            if array.shape != (n,):
                raise ValueError(f"{label} has shape {array.shape} for {n} joint names")
            array.flags.writeable = False

    def select(self, joint_names: tuple[str, ...]) -> RobotState:
        """Return the same state with columns in the order of `joint_names`.

        Raises:
            JointError: a name is not among this state's joints.
        """
        index = index_of(self.joint_names, joint_names, what="joint state")
        return RobotState(self.stamp_ns, joint_names, self.positions[index], self.velocities[index])


@dataclass(frozen=True, slots=True)
class EnvironmentState:
    """What a simulation knows about the things around the robot; no sensor gives it.

    Attributes:
        stamp_ns: moment that it describes [ns].
        names: one per value, e.g. "object.x"; `wam.sim.tasks.truth` says what they mean.
        values: float64 [E]; m, rad or 1.
    """

    stamp_ns: int
    names: tuple[str, ...]
    values: Vector

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.names),):
            raise ValueError(f"values have shape {self.values.shape} for {len(self.names)} names")
        self.values.flags.writeable = False

    def select(self, names: tuple[str, ...]) -> Vector:
        """Return the values called `names`, in that order.

        Raises:
            JointError: one is missing.
        """
        return self.values[index_of(self.names, names, what="environment state")]


@dataclass(frozen=True, slots=True)
class Observation:
    """All streams at one reference time.

    Attributes:
        stamp_ns: reference time [ns]: the acquisition stamp of the newest image in it.
        frames: camera name -> the newest frame with stamp <= `stamp_ns`.
        state: joint state nearest before (or at) the reference time.
        environment: ground truth nearest before (or at) it; None where nobody asked for it.
    """

    stamp_ns: int
    frames: Mapping[str, CameraFrame]
    state: RobotState
    environment: EnvironmentState | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", MappingProxyType(dict(self.frames)))


@dataclass(frozen=True, slots=True)
class Instruction:
    """Natural-language task text.

    Attributes:
        text: at most 256 characters, not empty.
        generation: reset counter of the planner under which the text is in force, from 1.
    """

    text: str
    generation: int = 1

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("an instruction must not be empty")
        if len(self.text) > MAX_INSTRUCTION_CHARS:
            raise ValueError(
                f"an instruction has {len(self.text)} characters, allowed {MAX_INSTRUCTION_CHARS}"
            )


def index_of(have: tuple[str, ...], want: tuple[str, ...], *, what: str) -> npt.NDArray[np.intp]:
    """Return the index array that reorders columns named `have` into `want`.

    Args:
        have: names of the columns at hand.
        want: names wanted, in order.
        what: the thing that has the columns, for the error text.

    Raises:
        JointError: a wanted name is missing; the text lists both sets.
    """
    position = {name: i for i, name in enumerate(have)}
    missing = [name for name in want if name not in position]
    if missing:
        raise JointError(
            f"{what} lacks {', '.join(missing)}",
            value=list(have),
            allowed=f"all of {list(want)}",
            where="the robot file (config/robots) or the policy's state and action layout",
        )
    return np.array([position[name] for name in want], dtype=np.intp)
