# SPDX-License-Identifier: Apache-2.0
"""Values that messages of running nodes decode to. No ROS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.observation import CameraFrame, Rgb
from wam.core.policy import backends_in_values
from wam.core.verdict import Event as LadderMove


@dataclass(frozen=True, slots=True)
class JointSample:
    """One joint state or joint command.

    Attributes:
        stamp_ns: header stamp [ns].
        positions: float64 [N], in the order of the group or the robot; rad or m.
    """

    stamp_ns: int
    positions: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ImageSample:
    """One camera image, decoded on demand.

    Attributes:
        camera: name of the camera.
        stamp_ns: header stamp [ns].
        decode: returns uint8 [H, W, 3]; raises `ImageError` for one that does not fit.
    """

    camera: str
    stamp_ns: int
    decode: Callable[[], Rgb]

    def frame(self) -> CameraFrame:
        """Return the decoded image."""
        return CameraFrame(self.camera, self.stamp_ns, self.decode())


@dataclass(frozen=True, slots=True)
class SafetyMove:
    """One event of the safety node.

    Attributes:
        stamp_ns: when the node decided [ns].
        move: the finding, and the rungs before and after.
    """

    stamp_ns: int
    move: LadderMove


@dataclass(frozen=True, slots=True)
class NodeDiagnostics:
    """One status on /diagnostics.

    Attributes:
        stamp_ns: header stamp [ns].
        name: "NODE: TASK".
        values: key -> value.
    """

    stamp_ns: int
    name: str
    values: Mapping[str, str]

    @property
    def backends(self) -> dict[str, str]:
        """Stage of the policy -> what runs it; empty for nodes without one."""
        return backends_in_values(self.values)
