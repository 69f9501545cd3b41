# SPDX-License-Identifier: Apache-2.0
"""Placement of a task's objects and look of the room, determined by a seed alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wam.core.errors import ConfigError
from wam.sim.look import Light, Look, Texture
from wam.sim.scene import Placement, Region, Scene, SceneObject
from wam.sim.tasks.slide import Slide, plan_slide
from wam.sim.tasks.task import ITEM, Setting, Spot, Task, Variant

MAX_ARRANGEMENTS = 500
TRIES_PER_SPOT = 100

UNSEEN_TEXTURES = (Texture.CHECKER, Texture.STRIPES, Texture.TERRAZZO, Texture.WALNUT)
"""Textures of table and floor that no task uses in training."""

UNSEEN_SURFACES = (Texture.LINEN, Texture.TERRAZZO)
"""Textures of objects; they keep their own colours."""

ELEVATION = (0.9, 1.35)
"""Height of the unseen light above the horizon [rad]; a lower one throws shadows over everything."""


class TaskScene(Scene):
    """The scene of a task under a setting: `place` and `look` follow the task's spots and variants.

    Args:
        task: the task.
        setting: one of the task's.

    Raises:
        ConfigError: the task does not have the setting.
    """

    def __init__(self, task: Task, setting: Setting) -> None:
        if setting not in task.settings:
            raise ConfigError(
                f"task {task.name} does not have this setting",
                value=setting.value,
                allowed=", ".join(one.value for one in task.settings),
                where="the requested setting",
            )
        objects = task.objects + (task.distractors if setting.has_distractors else ())
        super().__init__(objects, Region(0.0, 0.0, 0.0, 0.0, 0.0), clearance=task.clearance)
        object.__setattr__(self, "task", task)
        object.__setattr__(self, "setting", setting)

    task: Task
    setting: Setting

    def variant(self, seed: int) -> Variant:
        """Return the kind of episode of `seed`."""
        variants = self.task.variants_of(self.setting)
        return variants[seed % len(variants)]

    def place(self, seed: int) -> tuple[Placement | None, ...]:
        """Return where each object stands, or None for one that this variant does not have.

        Raises:
            ValueError: there is no space for all; the task's spots are too small.
        """
        placed = arrange(self.task, self.variant(seed), self.setting, seed)
        return tuple(placed.get(item.name) for item in self.objects)

    def slide(self, seed: int) -> Slide | None:
        """Return how the target slides in the episode of `seed`; None under settings in which nothing does.

        Raises:
            ValueError: there is no room for it.
        """
        if self.setting is not Setting.MOVED_TARGET or self.task.sliding is None:
            return None
        variant = self.variant(seed)
        return plan_slide(
            self.task.sliding(variant),
            arrange(self.task, variant, self.setting, seed),
            {item.name: item for item in self.objects},
            seed=seed,
        )

    def look(self, seed: int) -> Look:
        """Return textures and light of the setting."""
        # A stream of its own: places do not depend on the setting's look.
        rng = np.random.default_rng([seed, 1])
        task, setting = self.task, self.setting
        table = task.textures[int(rng.integers(len(task.textures)))] if task.textures else None
        floor, surfaces, light = None, {}, None
        if setting.has_textures:
            table, floor = (UNSEEN_TEXTURES[i] for i in rng.permutation(len(UNSEEN_TEXTURES))[:2])
            surfaces = {
                item.name: UNSEEN_SURFACES[int(rng.integers(len(UNSEEN_SURFACES)))] for item in self.objects
            }
        if setting.has_light:
            warmth = rng.uniform(-0.25, 0.25)
            bright = rng.uniform(0.25, 0.75)
            light = Light(
                azimuth=rng.uniform(-math.pi, math.pi),
                elevation=rng.uniform(*ELEVATION),
                colour=(bright * (1 + warmth), bright, bright * (1 - warmth)),
                ambient=rng.uniform(0.20, 0.50),
            )
        return Look(table=table, floor=floor, objects=surfaces, light=light)


@dataclass(frozen=True, slots=True)
class _Circle:
    x: float
    y: float
    radius: float


def arrange(task: Task, variant: Variant, setting: Setting, seed: int) -> dict[str, Placement]:
    """Return object name -> where it stands, for all that are there.

    Raises:
        ValueError: there is no space for all.
    """
    rng = np.random.default_rng(seed)
    items = {item.name: item for item in (*task.objects, *task.distractors)}
    spots = list(_spots_of(task, variant, setting))
    for _ in range(MAX_ARRANGEMENTS):
        placed = _attempt(spots, items, task.clearance, rng)
        if placed is not None:
            return placed
    raise ValueError(f"task {task.name}, seed {seed}: its spots have no space for {[s.item for s in spots]}")


def _spots_of(task: Task, variant: Variant, setting: Setting) -> Iterator[Spot]:
    absent = task.optional() - set(variant.objects)
    for spot in task.spots:
        name = variant.item if spot.item == ITEM else spot.item
        if name not in absent:
            yield Spot(name, spot.region, spot.on, spot.yaw, spot.overlaps)
    if setting.has_distractors and task.distractor_region is not None:
        for item in task.distractors:
            yield Spot(item.name, task.distractor_region)


def _attempt(
    spots: Sequence[Spot], items: dict[str, SceneObject], clearance: float, rng: np.random.Generator
) -> dict[str, Placement] | None:
    """Return placements, or None when one found no room beside those before it."""
    placed: dict[str, Placement] = {}
    circles: list[_Circle] = []
    for spot in spots:
        item = items[spot.item]
        for _ in range(TRIES_PER_SPOT):
            place = _draw(spot, items, placed, rng)
            free = all(
                math.hypot(place.x - other.x, place.y - other.y) >= item.footprint + other.radius + clearance
                for other in circles
            )
            if free or spot.overlaps or spot.on is not None:
                break
        else:
            return None
        placed[spot.item] = place
        if spot.on is None:
            circles.append(_Circle(place.x, place.y, item.footprint))
    return placed


def _draw(
    spot: Spot, items: dict[str, SceneObject], placed: dict[str, Placement], rng: np.random.Generator
) -> Placement:
    region = spot.region
    x, y = rng.uniform(region.x_min, region.x_max), rng.uniform(region.y_min, region.y_max)
    yaw = rng.uniform(*spot.yaw)
    if spot.on is None:
        return Placement(x, y, region.z, yaw)
    base, deck = placed[spot.on], items[spot.on].deck
    if deck is None:
        raise ValueError(f"nothing can stand on {spot.on!r}: it has no deck")
    cos, sin = math.cos(base.yaw), math.sin(base.yaw)
    return Placement(
        base.x + cos * x - sin * y, base.y + sin * x + cos * y, base.z + deck + region.z, base.yaw + yaw
    )
