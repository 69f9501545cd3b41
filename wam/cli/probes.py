# SPDX-License-Identifier: Apache-2.0
"""Probes that `wam doctor` runs in separate processes, since a broken driver may crash or hang its process.

`python -m wam.cli.probes NAME` prints one JSON object on the last line of its output.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

ROUND_TRIP_DEADLINE_S = 10.0
RENDER_HEIGHT, RENDER_WIDTH = 48, 64
RED_BALL = """
<mujoco><worldbody><light pos="0 -1 2"/><camera name="eye" pos="0 -1 0" xyaxes="1 0 0 0 0 1"/>
<geom type="sphere" size=".2" rgba="1 0 0 1"/></worldbody></mujoco>
"""


def ros() -> dict[str, Any]:
    """Publish a message over DDS and receive it in this process."""
    import rclpy
    from std_msgs.msg import String

    rclpy.init()
    node = rclpy.create_node(f"wam_doctor_{os.getpid()}")
    received: list[str] = []
    topic = f"wam_doctor_{os.getpid()}/ping"
    node.create_subscription(String, topic, lambda message: received.append(message.data), 1)
    publisher = node.create_publisher(String, topic, 1)
    start = time.monotonic()
    sent = start
    while publisher.get_subscription_count() == 0 and time.monotonic() - start < ROUND_TRIP_DEADLINE_S:
        rclpy.spin_once(node, timeout_sec=0.01)
    sent = time.monotonic()
    publisher.publish(String(data="ping"))
    while not received and time.monotonic() - start < ROUND_TRIP_DEADLINE_S:
        rclpy.spin_once(node, timeout_sec=0.1)
    took = time.monotonic() - sent
    result = {
        "rmw": rclpy.get_rmw_implementation_identifier(),
        "rclpy": os.path.dirname(rclpy.__file__),
        "arrived": bool(received),
        "round_trip_ms": round(took * 1e3, 2),
    }
    node.destroy_node()
    rclpy.shutdown()
    return result


def messages() -> dict[str, Any]:
    """Import the built messages; the source folder alone would be found as an empty namespace."""
    import wam_msgs.msg

    names = sorted(name for name in dir(wam_msgs.msg) if not name.startswith("_") and name[0].isupper())
    return {"place": os.path.dirname(wam_msgs.msg.__file__), "messages": names}


def torch() -> dict[str, Any]:
    """Import torch and list its devices."""
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda_build": torch.version.cuda,
        "devices": devices,
    }


def render() -> dict[str, Any]:
    """Render a red ball without a display and check its colour."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    import mujoco

    model = mujoco.MjModel.from_xml_string(RED_BALL)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, RENDER_HEIGHT, RENDER_WIDTH)
    renderer.update_scene(data, camera="eye")
    renderer.render()
    start = time.monotonic()
    image_HWC = renderer.render()
    took = time.monotonic() - start
    red, green, _ = (int(value) for value in image_HWC[RENDER_HEIGHT // 2, RENDER_WIDTH // 2])
    renderer.close()
    return {
        "version": mujoco.__version__,
        "backend": os.environ["MUJOCO_GL"],
        "red": red > green + 50,
        "render_ms": round(took * 1e3, 1),
    }


def window() -> dict[str, Any]:
    """Open an invisible window with OpenGL, as MuJoCo's viewer opens a visible one."""
    from mujoco.glfw import GLContext, glfw

    # GLFW warns of what it cannot do and goes on; of some things that do no harm, too.
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        context = GLContext(RENDER_WIDTH, RENDER_HEIGHT)
        context.make_current()
        opened = bool(glfw.get_current_context())
        context.free()
    if not opened:
        reason = str(said[0].message) if said else "no OpenGL context"
        sys.exit(reason.partition("b'")[2].rstrip("'") or reason)  # "(65550) b'X11: ...'"
    return {"opened": opened}


PROBES: dict[str, Callable[[], dict[str, Any]]] = {
    "ros": ros,
    "messages": messages,
    "torch": torch,
    "render": render,
    "window": window,
}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]]()), flush=True)
