# SPDX-License-Identifier: Apache-2.0
"""Cameras of a known make: what their drivers fix comes from config/cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wam.core.errors import ConfigError
from wam.devices.loader import load_robot
from wam.robots.camera_spec import CameraTransport, Reliability
from wam.robots.cameras import list_presets


def test_there_are_the_three_makes() -> None:
    assert list_presets() == ("orbbec_gemini_336l", "realsense_d435i", "zed")


CAMERA = """\
title: One arm
groups:
  - name: arm
    state: {{topic: arm/joint_states, rate: 200, max_age: 0.05}}
    command: {{kind: none}}
    joints:
      - {{driver_name: joint1, kind: revolute, lower: -1, upper: 1, velocity: 1, acceleration: 2, jerk: 50}}
cameras:
  - {{name: top, preset: {preset}, height: 360, width: 640, rate: 15, max_age: 0.25{more}}}
safety: {{chunk_timeout: 0.25, max_jump: 0.2, tracking_error: 0.3, lead: 0.04, blend: 0.1}}
"""


def camera(folder: Path, preset: str, more: str = "") -> object:
    file = folder / "arm.yaml"
    file.write_text(CAMERA.format(preset=preset, more=more), encoding="utf-8")
    return load_robot(file).camera("top")


@pytest.mark.parametrize(
    ("preset", "topic", "encoding", "frame"),
    [
        ("realsense_d435i", "cameras/top/color/image_raw", "rgb8", "top_color_optical_frame"),
        ("orbbec_gemini_336l", "top/color/image_raw", "rgb8", "top_color_optical_frame"),
        ("zed", "top/zed_node/rgb/color/rect/image", "bgra8", "top_left_camera_frame_optical"),
    ],
)
def test_a_preset_gives_topic_encoding_frame_and_reliability(
    preset: str, topic: str, encoding: str, frame: str, tmp_path: Path
) -> None:
    spec = camera(tmp_path, preset)
    assert (spec.topic, spec.encoding, spec.frame_id) == (topic, encoding, frame)
    assert (spec.transport, spec.reliability) == (CameraTransport.RAW, Reliability.AUTO)
    assert (spec.height, spec.width, spec.preset) == (360, 640, preset)


def test_the_robot_file_may_overrule_a_preset(tmp_path: Path) -> None:
    """The ZED's driver before 5.1 had another topic."""
    more = ", topic: top/zed_node/rgb/image_rect_color, reliability: best_effort"
    spec = camera(tmp_path, "zed", more)
    assert spec.topic == "top/zed_node/rgb/image_rect_color"
    assert spec.reliability is Reliability.BEST_EFFORT
    assert spec.encoding == "bgra8"


@pytest.mark.parametrize(
    ("preset", "more", "why"),
    [
        ("kinect", "", "is no known camera: got 'kinect'; allowed: orbbec_gemini_336l, realsense_d435i, zed"),
        ("zed", ", colour: rgb8", "cameras.0..colour is an unknown key"),
        ("zed", ", reliability: often", "allowed: auto, reliable, best_effort"),
        ("zed", ", encoding: yuv422", "encoding is illegal: got 'yuv422'"),
    ],
)
def test_a_faulty_camera_is_refused(preset: str, more: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why):
        camera(tmp_path, preset, more)


def test_four_channels_of_a_zed_become_the_policys_three() -> None:
    from types import SimpleNamespace

    from wam.robots.images import decode_image

    pixels = np.zeros((2, 3, 4), dtype=np.uint8)
    pixels[..., 0], pixels[..., 2], pixels[..., 3] = 10, 30, 255
    message = SimpleNamespace(
        height=2, width=3, encoding="bgra8", step=12, is_bigendian=0, data=pixels.tobytes()
    )
    image = decode_image(message, camera="top", size=(2, 3))
    assert image.shape == (2, 3, 3)
    assert tuple(image[0, 0]) == (30, 0, 10)
