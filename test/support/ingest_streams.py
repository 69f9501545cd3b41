# SPDX-License-Identifier: Apache-2.0
"""A robot of two arms and two cameras for tests of the ingest, and the messages of its streams."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.robots.camera_spec import CameraSpec, CameraTransport
from wam.robots.description import CommandKind, JointGroup, JointKind, JointSpec, RobotDescription
from wam.robots.safety_budget import SafetyBudget
from wam.runtime.ingest.ingest import StreamIngest

T0 = 1000 * NS_PER_S
HEIGHT, WIDTH = 4, 6
NAMES = ("joint1", "gripper")


def group(name: str) -> JointGroup:
    return JointGroup(
        name=name,
        joints=(
            JointSpec(f"{name}_joint1", "joint1", JointKind.REVOLUTE, -1.0, 1.0, 1.0, 1.0, 1.0),
            JointSpec(f"{name}_gripper", "gripper", JointKind.PRISMATIC, 0.0, 0.07, 1.0, 1.0, 1.0),
        ),
        state_topic=f"{name}/joint_states_single",
        state_rate=200.0,
        state_max_age_ns=50 * NS_PER_MS,
        command_kind=CommandKind.NONE,
        command_topic="",
        command_rate=0.0,
    )


def camera(name: str, transport: CameraTransport = CameraTransport.RAW) -> CameraSpec:
    return CameraSpec(
        name, f"{name}/image_raw", transport, "rgb8", HEIGHT, WIDTH, 15.0, 200 * NS_PER_MS, "optical"
    )


ROBOT = RobotDescription(
    name="test",
    title="Test",
    urdf=None,
    xacro_args=(),
    srdf=None,
    groups=(group("left"), group("right")),
    cameras=(camera("head"), camera("wrist", CameraTransport.COMPRESSED)),
    safety=SafetyBudget(NS_PER_S, 0.1, 0.1, 0, 0),
    source=Path("test.yaml"),
)


def stamped(stamp_ns: int, **fields: object) -> SimpleNamespace:
    stamp = SimpleNamespace(sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), **fields)


def image(
    stamp_ns: int, *, colour: int = 50, encoding: str = "rgb8", height: int = HEIGHT
) -> SimpleNamespace:
    data = bytes([colour]) * (height * WIDTH * 3)
    return stamped(
        stamp_ns, height=height, width=WIDTH, encoding=encoding, step=WIDTH * 3, is_bigendian=0, data=data
    )


def jpeg(stamp_ns: int, *, keep: float = 1.0) -> SimpleNamespace:
    data = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))[1].tobytes()
    return stamped(stamp_ns, format="jpeg", data=data[: int(len(data) * keep)])


def joints(
    stamp_ns: int,
    position: tuple[float, ...] = (0.1, 0.02),
    *,
    names: tuple[str, ...] = NAMES,
    velocity: tuple[float, ...] = (0.5,),
) -> SimpleNamespace:
    return stamped(stamp_ns, name=list(names), position=list(position), velocity=list(velocity), effort=[])


def fed(*, now_ns: int = T0, cameras: tuple[str, ...] = ("head",)) -> StreamIngest:
    """Return an ingest that can assemble at `now_ns`."""
    ingest = StreamIngest(ROBOT, cameras=cameras)
    for name in ("left", "right"):
        ingest.put_joint_state(name, joints(now_ns))
    for name in cameras:
        ingest.put_image(name, image(now_ns) if name == "head" else jpeg(now_ns))
    return ingest


def texts(ingest: StreamIngest) -> list[str]:
    return [f"{notice.kind.value}: {notice.text}" for notice in ingest.take_notices()]
