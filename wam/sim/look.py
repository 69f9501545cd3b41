# SPDX-License-Identifier: Apache-2.0
"""Appearance of a world: textures of table, floor and objects, and its light. The physics do not depend on it."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import mujoco
import numpy as np
import numpy.typing as npt

TABLE_BODY = "table"
"""Link of the robots' xacro whose surface is the table's."""

FLOOR = "floor"
KEY_LIGHT = "key"
TEXTURE_PX = 128
UNTINTED = (0.5, 0.5, 0.5, 1.0)
"""MuJoCo's default colour of a geometry: with it the material's own colour is shown."""


class Texture(enum.Enum):
    """Textures that are compiled into every world."""

    OAK = "oak"
    LINEN = "linen"
    SLATE = "slate"
    CHECKER = "checker"
    STRIPES = "stripes"
    TERRAZZO = "terrazzo"
    WALNUT = "walnut"


@dataclass(frozen=True, slots=True)
class Light:
    """The room's light.

    Attributes:
        azimuth: where the key light stands, about the vertical, from x towards y [rad].
        elevation: its height above the horizon [rad].
        colour: of the key light, 0..1.
        ambient: light from everywhere, 0..1.
    """

    azimuth: float
    elevation: float
    colour: tuple[float, float, float]
    ambient: float


@dataclass(frozen=True, slots=True)
class Look:
    """Textures and light; None keeps what the model was built with.

    Attributes:
        table: texture of the table top.
        floor: texture of the floor.
        objects: object name -> texture of its solids, in their own colours.
        light: light of the room.
    """

    table: Texture | None = None
    floor: Texture | None = None
    objects: Mapping[str, Texture] = field(default_factory=dict)
    light: Light | None = None


PLAIN = Look()


def add_textures(spec: mujoco.MjSpec) -> None:
    """Compile every texture into the model, as a material of its name."""
    for texture in Texture:
        made = spec.add_texture(
            name=texture.value,
            type=mujoco.mjtTexture.mjTEXTURE_2D,
            width=TEXTURE_PX,
            height=TEXTURE_PX,
            nchannel=3,
        )
        made.data = pixels(texture).tobytes()
        material = spec.add_material(name=texture.value, texrepeat=[3, 3], texuniform=True, rgba=[1, 1, 1, 1])
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture.value


class Dresser:
    """Changes the look of a compiled model; cameras that share the model show it from their next image on.

    Args:
        model: a model with the materials of `add_textures`.
        objects: object name -> its geometries.
    """

    def __init__(self, model: mujoco.MjModel, objects: Mapping[str, npt.NDArray[np.intp]]) -> None:
        self._model = model
        self._objects = objects
        self._materials = {texture: model.material(texture.value).id for texture in Texture}
        table = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, TABLE_BODY)
        self._table = np.flatnonzero(model.geom_bodyid == table) if table >= 0 else np.empty(0, dtype=np.intp)
        self._floor = np.array([model.geom(FLOOR).id])
        self._light = model.light(KEY_LIGHT).id
        self._plain = (
            model.geom_matid.copy(),
            model.geom_rgba.copy(),
            model.light_dir.copy(),
            model.light_diffuse.copy(),
            np.array(model.vis.headlight.ambient),
        )

    def apply(self, look: Look) -> None:
        """Show `look`, whatever was shown before."""
        model = self._model
        materials, colours, directions, diffuse, ambient = self._plain
        model.geom_matid[:] = materials
        model.geom_rgba[:] = colours
        model.light_dir[:] = directions
        model.light_diffuse[:] = diffuse
        model.vis.headlight.ambient[:] = ambient
        for geometries, texture in ((self._table, look.table), (self._floor, look.floor)):
            if texture is not None:
                model.geom_matid[geometries] = self._materials[texture]
                model.geom_rgba[geometries] = UNTINTED
        for name, texture in look.objects.items():
            model.geom_matid[self._objects[name]] = self._materials[texture]
        if look.light is not None:
            light, flat = look.light, math.cos(look.light.elevation)
            model.light_dir[self._light] = [
                -flat * math.cos(light.azimuth),
                -flat * math.sin(light.azimuth),
                -math.sin(light.elevation),
            ]
            model.light_diffuse[self._light] = light.colour
            model.vis.headlight.ambient[:] = light.ambient


def pixels(texture: Texture) -> npt.NDArray[np.uint8]:
    """Return the texture, uint8 [TEXTURE_PX, TEXTURE_PX, 3]; the same at every call."""
    rng = np.random.default_rng(list(Texture).index(texture))
    row, column = np.mgrid[0:TEXTURE_PX, 0:TEXTURE_PX] / TEXTURE_PX
    noise = rng.uniform(-1.0, 1.0, (TEXTURE_PX, TEXTURE_PX))
    if texture in (Texture.OAK, Texture.WALNUT):
        dark, bright = ((0.50, 0.36, 0.22), (0.72, 0.56, 0.38))
        if texture is Texture.WALNUT:
            dark, bright = ((0.20, 0.12, 0.08), (0.36, 0.23, 0.15))
        # Rings of a tree, cut along it: the waves repeat at the edges of the tile.
        waves = np.sin(2 * math.pi * (14 * row + 0.35 * np.sin(2 * math.pi * column)))
        share = 0.5 + 0.2 * waves + 0.15 * noise
    elif texture is Texture.LINEN:
        dark, bright = (0.72, 0.70, 0.64), (0.90, 0.88, 0.82)
        share = 0.5 + 0.25 * np.sin(64 * math.pi * row) + 0.25 * np.sin(64 * math.pi * column) + 0.2 * noise
    elif texture is Texture.SLATE:
        dark, bright = (0.18, 0.20, 0.22), (0.34, 0.36, 0.38)
        share = 0.5 + 0.5 * noise
    elif texture is Texture.CHECKER:
        dark, bright = (0.20, 0.30, 0.55), (0.92, 0.92, 0.90)
        share = (np.floor(4 * row) + np.floor(4 * column)) % 2
    elif texture is Texture.STRIPES:
        dark, bright = (0.62, 0.16, 0.18), (0.93, 0.88, 0.76)
        share = np.floor(8 * (row + column)) % 2
    else:
        dark, bright = (0.84, 0.82, 0.78), (0.35, 0.40, 0.36)
        stones = np.ones_like(noise)
        for _ in range(60):
            away = np.hypot((row - rng.uniform() + 0.5) % 1 - 0.5, (column - rng.uniform() + 0.5) % 1 - 0.5)
            stones = np.minimum(stones, away / rng.uniform(0.015, 0.05))
        share = (stones < 1.0).astype(np.float64)
    mixed = np.clip(share, 0.0, 1.0)[..., None]
    colour: npt.NDArray[np.float64] = 255 * (np.array(dark) * (1 - mixed) + np.array(bright) * mixed)
    return np.round(colour).astype(np.uint8)
