# SPDX-License-Identifier: Apache-2.0
"""Pictures of a world, off-screen through EGL, in a thread of their own.

OpenGL ties a context to the thread that made it, and a picture takes many physics steps: a `CameraRenderer` therefore
has its own copy of the state, is given snapshots, and leaves the world alone.
"""

from __future__ import annotations

import threading
from typing import Any

import cv2
import mujoco
import numpy as np

from wam.core.errors import ConfigError, MissingDependency
from wam.core.observation import Rgb
from wam.robots.description import CameraSpec
from wam.sim.model import SUPERSAMPLE, VISIBLE_GROUP
from wam.sim.world import Snapshot

DEBIAN_PACKAGES = "libegl1 libgl1-mesa-dri"
MAX_GEOMETRIES = 1000

_DRIVER = threading.Lock()
"""One thread at a time inside OpenGL: all contexts of a process share Mesa's software screen, and two cameras that
render at once have crashed it."""


class CameraRenderer:
    """Renders one camera. Made anywhere; `render` and `close` belong to one thread, whichever renders first.

    Args:
        model: model of the world; it is read only.
        camera: size, and name of the camera in the model.

    Raises:
        ConfigError: the camera is not simulated (its robot file gives no `vertical_fov`).
    """

    def __init__(self, model: mujoco.MjModel, camera: CameraSpec) -> None:
        self._camera_id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera.name)
        if self._camera_id < 0:
            raise ConfigError(
                f"camera {camera.name} cannot be simulated",
                allowed="a camera with `vertical_fov` in the robot file",
                where="the camera's entry in the robot file (config/robots)",
            )
        buffer = model.vis.global_
        if SUPERSAMPLE * camera.width > buffer.offwidth or SUPERSAMPLE * camera.height > buffer.offheight:
            raise ValueError(
                f"the model was built for pictures of {buffer.offwidth // SUPERSAMPLE}x"
                f"{buffer.offheight // SUPERSAMPLE} px, asked for {camera.width}x{camera.height} px"
            )
        self._model, self.camera = model, camera
        self._data = mujoco.MjData(model)
        self._thread: int | None = None
        self._gl: Any = None

    def render(self, snapshot: Snapshot) -> Rgb:
        """Return the picture of `snapshot`: uint8 [H, W, 3], red first, of the camera's size.

        Raises:
            MissingDependency: EGL cannot be used on this machine; the text names the Debian packages.
        """
        self.open()
        if self._thread != threading.get_ident():
            raise RuntimeError(f"camera {self.camera.name} was first rendered in another thread")
        data = self._data
        data.qpos[:] = snapshot.qpos
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_camlight(self._model, data)
        mujoco.mjv_updateScene(
            self._model, data, self._options, None, self._view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        with _DRIVER:
            mujoco.mjr_render(self._rectangle, self._scene, self._context)
            # Reading pixels holds the interpreter's lock until the picture is ready; waiting here does not.
            self._finish()
            mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._context)
        size = (self.camera.width, self.camera.height)
        return np.ascontiguousarray(cv2.resize(self._pixels, size, interpolation=cv2.INTER_AREA)[::-1])

    def open(self) -> None:
        """Make the context in this thread, which owns it from then on; it takes some tenths of a second.

        Raises:
            MissingDependency: EGL cannot be used on this machine; the text names the Debian packages.
        """
        if self._gl is None:
            with _DRIVER:
                self._open()

    def close(self) -> None:
        """Free the context; safe to call twice."""
        if self._gl is not None:
            with _DRIVER:
                self._context.free()
                self._gl.free()
            self._gl = None

    def _open(self) -> None:
        height, width = SUPERSAMPLE * self.camera.height, SUPERSAMPLE * self.camera.width
        self._gl, self._finish = _open_egl(width, height)
        self._thread = threading.get_ident()
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = 0
        self._options.geomgroup[VISIBLE_GROUP] = 1
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = self._camera_id
        self._scene = mujoco.MjvScene(self._model, maxgeom=MAX_GEOMETRIES)
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), dtype=np.uint8)


def require_egl() -> None:
    """Check that pictures can be rendered here.

    Raises:
        MissingDependency: they cannot; the text names the Debian packages.
    """
    with _DRIVER:
        context, _ = _open_egl(16, 16)
        context.free()


def _open_egl(width: int, height: int) -> tuple[Any, Any]:
    """Return a current EGL context and `glFinish`."""
    try:
        from mujoco import egl

        context = egl.GLContext(width, height)
        context.make_current()
        from OpenGL import GL
    # PyOpenGL and MuJoCo raise all of these for one cause: no EGL library, or no driver behind it.
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise MissingDependency(
            f"simulated cameras need EGL, which cannot be used here ({type(error).__name__}: {error})",
            where=f"the machine: apt install {DEBIAN_PACKAGES}; or run the simulation without cameras",
        ) from None
    return context, GL.glFinish
