# SPDX-License-Identifier: Apache-2.0
"""Images of a world, off-screen through EGL, in their own thread.

OpenGL ties a context to the thread that made it, and an image takes many physics steps: a `CameraRenderer` therefore
has its own copy of the state, is given snapshots, and leaves the world alone.
"""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass
from typing import Any

import cv2
import mujoco
import numpy as np

from wam.core.errors import CannotRender, ConfigError
from wam.core.observation import Rgb
from wam.robots.camera_spec import CameraSpec
from wam.sim.gl import rendering_remedy
from wam.sim.model import VISIBLE_GROUP
from wam.sim.quality import SUPERSAMPLE, Quality
from wam.sim.world import SimWorld, Snapshot

MAX_GEOMETRIES = 1000
AZIMUTHS_DEG = (140.0, 220.0, 115.0, 245.0)
"""Candidate views of a spectator, preferred ones first [deg]."""

MARGIN = 1.08
"""Margin around robot and objects, since only the origins of their parts are known."""

HALF_FOV_DEG = 22.5
"""Half of the height that MuJoCo's free camera sees [deg]."""

_DRIVER = threading.Lock()
"""One thread at a time inside OpenGL: all contexts of a process share Mesa's software screen, and rendering from two
cameras at once has crashed it."""


@dataclass(frozen=True, slots=True)
class View:
    """View of a spectator.

    Attributes:
        lookat: point in the middle of the image [m].
        distance: from it [m].
        azimuth: direction of the look about the vertical; 0 looks along x [rad].
        elevation: of the look above the horizon; negative looks down [rad].
    """

    lookat: tuple[float, float, float]
    distance: float
    azimuth: float = math.radians(140.0)
    elevation: float = math.radians(-24.0)


class _Renderer:
    """Renders one view. Made anywhere; `render` and `close` belong to one thread, whichever renders first."""

    def __init__(
        self,
        model: mujoco.MjModel,
        view: mujoco.MjvCamera,
        *,
        height: int,
        width: int,
        name: str,
        quality: Quality,
    ) -> None:
        self._model, self._view, self._quality = model, view, quality
        self._height, self._width, self._name = height, width, name
        self._data = mujoco.MjData(model)
        self._thread: int | None = None
        self._gl: Any = None

    def render(self, snapshot: Snapshot) -> Rgb:
        """Return the image of `snapshot`: uint8 [H, W, 3], red first, of the camera's size.

        Raises:
            CannotRender: EGL cannot be used on this machine; the text says what helps.
        """
        self.open()
        if self._thread != threading.get_ident():
            raise RuntimeError(f"{self._name} was first rendered in another thread")
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
            # Reading pixels holds the interpreter's lock until the image is ready; waiting here does not.
            self._finish()
            mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._context)
        if self._quality.supersample == 1:
            return np.ascontiguousarray(self._pixels[::-1])
        size = (self._width, self._height)
        return np.ascontiguousarray(cv2.resize(self._pixels, size, interpolation=cv2.INTER_AREA)[::-1])

    def open(self) -> None:
        """Make the context in this thread, which owns it from then on; it takes some tenths of a second.

        Raises:
            CannotRender: EGL cannot be used on this machine; the text says what helps.
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
        share = self._quality.supersample
        height, width = share * self._height, share * self._width
        self._gl, self._finish = _open_egl(width, height)
        self._thread = threading.get_ident()
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = 0
        self._options.geomgroup[VISIBLE_GROUP] = 1
        self._scene = mujoco.MjvScene(self._model, maxgeom=MAX_GEOMETRIES)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = self._quality is Quality.FULL
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), dtype=np.uint8)


class CameraRenderer(_Renderer):
    """Renders one camera of the robot. Made anywhere; `render` and `close` belong to one thread.

    Args:
        model: model of the world; it is read only.
        camera: size, and name of the camera in the model.
        quality: of the images.

    Raises:
        ConfigError: the camera is not simulated (its robot file gives no `vertical_fov`).
    """

    def __init__(self, model: mujoco.MjModel, camera: CameraSpec, *, quality: Quality = Quality.FULL) -> None:
        number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera.name)
        if number < 0:
            raise ConfigError(
                f"camera {camera.name} cannot be simulated",
                allowed="a camera with `vertical_fov` in the robot file",
                where="the camera's entry in the robot file (config/robots)",
            )
        buffer = model.vis.global_
        if SUPERSAMPLE * camera.width > buffer.offwidth or SUPERSAMPLE * camera.height > buffer.offheight:
            raise ValueError(
                f"the model was built for images of {buffer.offwidth // SUPERSAMPLE}x"
                f"{buffer.offheight // SUPERSAMPLE} px, requested were {camera.width}x{camera.height} px"
            )
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = number
        name = f"camera {camera.name}"
        super().__init__(model, view, height=camera.height, width=camera.width, name=name, quality=quality)
        self.camera = camera


class ViewRenderer(_Renderer):
    """Renders what a spectator sees. Made anywhere; `render` and `close` belong to one thread.

    Args:
        model: model of the world; only the size of its image buffer is changed.
        view: where the spectator stands.
        height: of the image [px].
        width: of the image [px].
    """

    def __init__(self, model: mujoco.MjModel, view: View, *, height: int, width: int) -> None:
        camera = mujoco.MjvCamera()
        camera.lookat[:] = view.lookat
        camera.distance = view.distance
        camera.azimuth, camera.elevation = math.degrees(view.azimuth), math.degrees(view.elevation)
        buffer = model.vis.global_
        buffer.offwidth = max(buffer.offwidth, SUPERSAMPLE * width)
        buffer.offheight = max(buffer.offheight, SUPERSAMPLE * height)
        super().__init__(
            model, camera, height=height, width=width, name="the spectator's view", quality=Quality.FULL
        )


def view_of(world: SimWorld) -> View:
    """Return a view from the front and above that has the robot and its objects in the image, and nothing before."""
    items = [world.object_centre(item.name) for item in world.scene.objects if world.is_present(item.name)]
    points = np.array([*items, *(world.body_position(link) for link in sorted(world.moving_links))])
    low, high = points.min(axis=0), points.max(axis=0)
    # What stands in front is nearer to the eye, and what is done is done there.
    middle = (low + high) / 2
    x, y, z = 0.75 * middle + 0.25 * (np.mean(items, axis=0) if items else middle)
    radius = float(np.linalg.norm(high - low)) / 2
    distance = MARGIN * radius / math.sin(math.radians(HALF_FOV_DEG))
    views = [View((float(x), float(y), float(z)), distance, math.radians(angle)) for angle in AZIMUTHS_DEG]
    data = mujoco.MjData(world.model)
    data.qpos[:] = world.snapshot(0).qpos
    mujoco.mj_forward(world.model, data)
    return min(views, key=lambda view: _hidden(world.model, data, view))


def _hidden(model: mujoco.MjModel, data: mujoco.MjData, view: View) -> int:
    """Return how much of a view is taken by what stands in the nearer half of the way, in rays of a grid."""
    turn, rise = view.azimuth, view.elevation
    forward = np.array([math.cos(rise) * math.cos(turn), math.cos(rise) * math.sin(turn), math.sin(rise)])
    right = np.array([math.sin(turn), -math.cos(turn), 0.0])
    up = np.cross(right, forward)
    eye = np.array(view.lookat) - view.distance * forward
    groups = np.zeros(mujoco.mjNGROUP, dtype=np.uint8)
    groups[VISIBLE_GROUP] = 1
    hit = np.zeros(1, dtype=np.int32)
    half = math.tan(math.radians(HALF_FOV_DEG))
    hidden = 0
    for across in np.linspace(-4 / 3, 4 / 3, 13):
        for along in np.linspace(-1.0, 1.0, 9):
            ray = forward + half * (across * right + along * up)
            hidden += 0.0 <= mujoco.mj_ray(model, data, eye, ray, groups, 1, -1, hit) < view.distance / 2
    return hidden


def require_egl() -> None:
    """Check that images can be rendered here.

    Raises:
        CannotRender: they cannot; the text says what helps.
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
        raise CannotRender(
            f"simulated cameras need EGL, which cannot be used here ({type(error).__name__}: {error}); "
            f"{rendering_remedy(os.environ)}"
        ) from None
    return context, GL.glFinish
