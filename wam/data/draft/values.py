# SPDX-License-Identifier: Apache-2.0
"""A draft of a robot file, as values."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from pathlib import Path

from wam.robots.description import CommandKind, JointKind


class LimitOrigin(enum.Enum):
    """Where a limit comes from."""

    URDF = "URDF"
    OBSERVED = "observed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DraftLimit:
    """A limit of a joint.

    Attributes:
        origin: where it comes from.
        value: in rad, m or 1, or what the recording has in place of these; NaN where unknown.
    """

    origin: LimitOrigin
    value: float = float("nan")


UNKNOWN_LIMIT = DraftLimit(LimitOrigin.UNKNOWN)


@dataclass(frozen=True, slots=True)
class DraftJoint:
    """A joint.

    Attributes:
        driver_name: as recorded.
        name: policy-side name without the group's prefix.
        kind: a guess, or what the URDF says.
        lower: position limit.
        upper: position limit.
        velocity: velocity limit.
        effort: largest torque or force by the URDF [N m or N]; inf where it is not known.
        remarks: one line each.
    """

    driver_name: str
    name: str
    kind: JointKind
    lower: DraftLimit
    upper: DraftLimit
    velocity: DraftLimit
    effort: float = math.inf
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DraftCommand:
    """Recorded commands to a group.

    Attributes:
        kind: what the topic's type says.
        topic: relative.
        rate: [Hz].
    """

    kind: CommandKind
    topic: str
    rate: float


@dataclass(frozen=True, slots=True)
class DraftGroup:
    """Joints that one driver reports.

    Attributes:
        name: of the group.
        topic: of the joint states, relative; "" where it is not known.
        rate: [Hz]; NaN where it is not known.
        max_age_s: oldest state to act on [s]; NaN where it is not known.
        joints: in the order in which they were recorded.
        prefix: of the policy-side names.
        command: recorded commands; None for none.
        remarks: one line each.
    """

    name: str
    topic: str
    rate: float
    max_age_s: float
    joints: tuple[DraftJoint, ...]
    prefix: str = ""
    command: DraftCommand | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DraftCamera:
    """A camera.

    Attributes:
        name: of the camera.
        topic: relative.
        compressed: the transport.
        encoding: one that a robot file may name.
        height: [px].
        width: [px].
        rate: [Hz].
        max_age_s: [s].
        frame_id: as recorded, or made from the name.
        remarks: one line each.
    """

    name: str
    topic: str
    compressed: bool
    encoding: str
    height: int
    width: int
    rate: float
    max_age_s: float
    frame_id: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RobotDraft:
    """A draft of a robot file.

    Attributes:
        title: name for people.
        source: what it was made from, for people.
        groups: joint groups.
        cameras: cameras.
        commands: shell commands that replay the recording; ROBOT stands for the file of the draft.
        recorded_as: robot that the recording names; "" for none.
        urdf: model; None for none.
        urdf_fits: every joint is one of the model.
        remarks: what was left out and why, one line each.
    """

    title: str
    source: str
    groups: tuple[DraftGroup, ...]
    cameras: tuple[DraftCamera, ...]
    commands: tuple[str, ...]
    recorded_as: str = ""
    urdf: Path | None = None
    urdf_fits: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def can_replay(self) -> bool:
        """Whether nothing that a replay needs is missing."""
        return all(group.topic for group in self.groups)
