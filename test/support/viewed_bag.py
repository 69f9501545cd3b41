# SPDX-License-Identifier: Apache-2.0
"""A short recording of a robot with any number of joint groups and cameras."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wam.core.clock import NS_PER_S
from wam.data.bag.topics import ACTION_TOPIC, EPOCH_NS
from wam.data.bag.writing import Storage, new_bag
from wam.data.fakes import fake_image
from wam.robots.camera_spec import CameraTransport
from wam.robots.description import RobotDescription

RATE = 30


def write_bag(out: Path, robot: RobotDescription, *, seconds: float) -> None:
    """Write a bag in which every joint sways a little about its home, and is commanded one row ahead."""
    home = np.array([joint.home for joint in robot.joints])
    with new_bag(out, storage=Storage.MCAP, metadata={"wam.robot": robot.name}) as bag:
        for row in range(round(seconds * RATE)):
            stamp_ns = EPOCH_NS + row * NS_PER_S // RATE
            now, after = (home + 0.01 * np.sin(0.2 * at) for at in (row, row + 1))
            start = 0
            for group in robot.groups:
                part = now[start : start + len(group.joints)] / group.state_factors
                bag.joint_state(f"/{group.state_topic}", stamp_ns, names=group.driver_names, positions=part)
                start += len(group.joints)
            bag.joint_state(ACTION_TOPIC, stamp_ns, names=robot.joint_names, positions=after)
            for camera in robot.cameras:
                rgb = fake_image(row, height=camera.height, width=camera.width)
                if camera.transport is CameraTransport.RAW:
                    bag.image(f"/{camera.topic}", stamp_ns, frame_id="", rgb=rgb)
                    continue
                done, data = cv2.imencode(".jpg", rgb[..., ::-1])
                assert done
                bag.jpeg(f"/{camera.topic}", stamp_ns, frame_id="", data=data)
