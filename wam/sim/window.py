# SPDX-License-Identifier: Apache-2.0
"""MuJoCo's own viewer as a window that shows positions: it computes nothing, and nothing in it moves the robot.

It belongs in a process of its own. It opens its window in a thread that never returns where that fails, draws in that
thread until the process ends, and OpenGL through GLFW does not share a process with the EGL of simulated cameras
without risk.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import mujoco
import numpy as np
import numpy.typing as npt

from wam.core.errors import MachineFault
from wam.sim.model import VISIBLE_GROUP
from wam.sim.rendering import view_of
from wam.sim.world import SimWorld

OPEN_LIMIT_S = 120.0
"""A software renderer on a busy machine takes most of a minute [s]."""

POLL_S = 0.1


class Window(Protocol):
    """Shows a world. One thread."""

    def is_open(self) -> bool:
        """Return whether it is there: its user may close it at any time."""
        ...

    def show(self, positions: npt.NDArray[np.float64]) -> None:
        """Show generalised positions, float64 [nq], from now on."""
        ...

    def close(self) -> None:
        """Close it; safe to call twice."""
        ...


class MujocoWindow:
    """MuJoCo's passive viewer of a world.

    Args:
        world: what to show; its model is the window's from now on.
        given_up: asked several times a second whether to wait no longer for the window.

    Raises:
        MachineFault: the window did not open.
    """

    def __init__(self, world: SimWorld, *, given_up: Callable[[], bool]) -> None:
        self._model, self._data = world.model, mujoco.MjData(world.model)
        self._data.qpos[:] = world.snapshot(0).qpos
        self._handle = _open(self._model, self._data, given_up)
        view = view_of(world)
        with self._handle.lock():
            camera = self._handle.cam
            camera.lookat[:] = view.lookat
            camera.distance = view.distance
            camera.azimuth, camera.elevation = math.degrees(view.azimuth), math.degrees(view.elevation)
            self._handle.opt.geomgroup[:] = 0
            self._handle.opt.geomgroup[VISIBLE_GROUP] = 1

    def is_open(self) -> bool:
        """Return whether its user has left it open."""
        return bool(self._handle.is_running())

    def show(self, positions: npt.NDArray[np.float64]) -> None:
        """Show generalised positions, float64 [nq], from now on."""
        with self._handle.lock():
            self._data.qpos[:] = positions
            mujoco.mj_forward(self._model, self._data)
        self._handle.sync()

    def close(self) -> None:
        """Have its thread close it."""
        self._handle.close()


def _open(model: mujoco.MjModel, data: mujoco.MjData, given_up: Callable[[], bool]) -> Any:
    """Return the handle of a window that is open."""
    from mujoco import viewer

    opened: queue.Queue[Any] = queue.Queue()

    def launch() -> None:
        opened.put(viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False))

    def on_error(what: threading.ExceptHookArgs) -> None:
        opened.put(what.exc_value)

    # `launch_passive` waits for ever where the window's own thread has ended with an error.
    before, threading.excepthook = threading.excepthook, on_error
    try:
        threading.Thread(target=launch, name="open", daemon=True).start()
        began = time.monotonic()
        while time.monotonic() - began < OPEN_LIMIT_S and not given_up():
            with contextlib.suppress(queue.Empty):
                answer = opened.get(timeout=POLL_S)
                if isinstance(answer, BaseException):
                    raise MachineFault(f"the window did not open ({answer})")
                return answer
        raise MachineFault(f"the window had not opened after {time.monotonic() - began:.0f} s")
    finally:
        threading.excepthook = before
