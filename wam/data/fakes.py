# SPDX-License-Identifier: Apache-2.0
"""A generated robot and bags of it, of any length, for `wam bench` and the tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.observation import Rgb
from wam.data.bag.topics import ACTION_TOPIC, EPOCH_NS, INSTRUCTION_TOPIC, JPEG_QUALITY
from wam.data.bag.writing import Storage, new_bag
from wam.robots.camera_spec import CameraSpec, CameraTransport
from wam.robots.description import CommandKind, JointGroup, JointKind, JointSpec, RobotDescription
from wam.robots.safety_budget import SafetyBudget

CAMERA = "cam_high"
STATE_TOPIC = "joint_states"
IMAGE_TOPIC = "cam_high/image_raw/compressed"


def fake_robot(
    *,
    joints: int = 3,
    height: int = 48,
    width: int = 64,
    transport: CameraTransport = CameraTransport.COMPRESSED,
) -> RobotDescription:
    """Return a recorded robot with one joint group (policy names j0.., driver names d0..) and one camera."""
    specs = tuple(
        JointSpec(
            name=f"j{i}",
            driver_name=f"d{i}",
            kind=JointKind.REVOLUTE,
            lower=-3.0,
            upper=3.0,
            velocity=2.0,
            acceleration=10.0,
            jerk=100.0,
        )
        for i in range(joints)
    )
    group = JointGroup(
        name="body",
        joints=specs,
        state_topic=STATE_TOPIC,
        state_rate=30.0,
        state_max_age_ns=200 * NS_PER_MS,
        command_kind=CommandKind.NONE,
        command_topic="",
        command_rate=0.0,
    )
    camera = CameraSpec(
        name=CAMERA,
        topic=IMAGE_TOPIC if transport is CameraTransport.COMPRESSED else "cam_high/image_raw",
        transport=transport,
        encoding="jpeg" if transport is CameraTransport.COMPRESSED else "rgb8",
        height=height,
        width=width,
        rate=30.0,
        max_age_ns=200 * NS_PER_MS,
        frame_id="cam_high_optical_frame",
    )
    return RobotDescription(
        name="fake",
        title="a recorded robot",
        urdf=None,
        xacro_args=(),
        srdf=None,
        groups=(group,),
        cameras=(camera,),
        safety=SafetyBudget(
            chunk_timeout_ns=300 * NS_PER_MS,
            max_jump=0.5,
            tracking_error=0.5,
            lead_ns=50 * NS_PER_MS,
            blend_ns=100 * NS_PER_MS,
        ),
        source=Path("config/robots/fake.yaml"),
    )


def fake_image(index: int, *, height: int, width: int, texture: float = 0.0) -> Rgb:
    """Return an image whose brightness identifies its index, even after compression.

    Args:
        index: number of the image.
        height: rows [px].
        width: columns [px].
        texture: amplitude of a grain; 5 makes a JPEG of 640x480 as large as a camera's (65 kB), 0 a smooth image.
    """
    ramp = np.linspace(0, 60, width)[None, :] + np.linspace(0, 30, height)[:, None]
    level = 40 + (index * 7) % 120
    rgb = np.stack([ramp + level, ramp + level / 2, np.full_like(ramp, level)], axis=2)
    if texture:
        grain = np.random.default_rng(index).normal(0.0, texture, size=(height // 4 + 1, width // 4 + 1))
        rgb += np.kron(grain, np.ones((4, 4)))[:height, :width, None]
    return np.clip(rgb, 0, 255).astype(np.uint8)


def fake_trajectory(rows: int, joints: int, *, rate: float = 30.0) -> npt.NDArray[np.float64]:
    """Return smooth joint positions, float64 [rows, joints] [rad]."""
    t = np.arange(rows)[:, None] / rate
    return 0.5 * np.sin(2.0 * t + np.arange(joints)[None, :])


def write_fake_bag(
    out: Path,
    *,
    robot: RobotDescription,
    seconds: float = 2.0,
    rate: float = 30.0,
    storage: Storage = Storage.MCAP,
    action: bool = True,
    images: bool = True,
    distinct_images: int = 64,
    stamps: bool = True,
    latency: float = 0.0,
    texture: float = 0.0,
) -> None:
    """Write a bag of `robot` with joint states and, on request, images and the recorded action.

    Args:
        out: folder of the bag.
        robot: one group and one camera are used.
        seconds: length [s].
        rate: of all topics [Hz].
        storage: storage plugin.
        action: whether to write `/action`; it is the state of the next row.
        images: whether to write images.
        distinct_images: number of images that are encoded; then they repeat.
        stamps: whether joint states and images carry a stamp; without one it is zero.
        latency: receive time minus time of acquisition [s].
        texture: grain of the images, see `fake_image`.
    """
    rows = round(seconds * rate)
    group, camera = robot.groups[0], robot.cameras[0]
    state = fake_trajectory(rows + 1, len(group.joints), rate=rate)
    pictures = [
        fake_image(i, height=camera.height, width=camera.width, texture=texture)
        for i in range(min(rows, distinct_images))
    ]
    encoded = [
        cv2.imencode(".jpg", p[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1] for p in pictures
    ]
    with new_bag(out, storage=storage, metadata={"wam.robot": robot.name}) as bag:
        bag.text(INSTRUCTION_TOPIC, EPOCH_NS + round(latency * NS_PER_S), "follow the sine")
        for row in range(rows):
            taken_ns = EPOCH_NS + round(row * NS_PER_S / rate)
            stamp_ns, receive_ns = taken_ns if stamps else 0, taken_ns + round(latency * NS_PER_S)
            bag.joint_state(
                f"/{group.state_topic}",
                stamp_ns,
                names=group.driver_names,
                positions=state[row],
                receive_ns=receive_ns,
            )
            if action:
                bag.joint_state(
                    ACTION_TOPIC,
                    stamp_ns,
                    names=group.joint_names,
                    positions=state[row + 1],
                    receive_ns=receive_ns,
                )
            if not images:
                continue
            topic = f"/{camera.topic}"
            if camera.transport is CameraTransport.RAW:
                bag.image(topic, stamp_ns, frame_id="", rgb=pictures[row % len(pictures)])
            else:
                data = encoded[row % len(encoded)]
                bag.jpeg(topic, stamp_ns, frame_id="", data=data, receive_ns=receive_ns)
