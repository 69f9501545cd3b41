# SPDX-License-Identifier: Apache-2.0
"""A task as a value: objects, where they may stand, what is asked for, and three stages of progress."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

from wam.core.observation import Instruction
from wam.sim.look import Texture
from wam.sim.scene import Region, SceneObject
from wam.sim.tasks.criteria import Criterion
from wam.sim.tasks.slide import Sliding

STAGES = 3
"""Stages of every task: the score is 0 to 3, as in the paper of AHA-WAM (table 6)."""


ITEM = "{object}"
"""Stands in a spot for the object of the variant."""


class Setting(enum.Enum):
    """Conditions of an episode. All but SEEN are kept out of training data."""

    SEEN = "seen"  # as in training
    UNSEEN_TEXTURE = (
        "unseen_texture"  # table, floor and objects have textures of their own (UD-VLA: background)
    )
    UNSEEN_OBJECTS = "unseen_objects"  # objects that training does not have (UD-VLA)
    UNSEEN_LIGHT = "unseen_light"  # the light falls from elsewhere, in another colour
    DISTRACTORS = "distractors"  # things on the table that are not asked for (UD-VLA)
    RANDOMIZED = "randomized"  # texture, light and distractors at once (RoboTwin 2.0's domain randomisation)
    MOVED_TARGET = "moved_target"  # the target slides aside once the object has been grasped

    @property
    def has_distractors(self) -> bool:
        """Whether things that are not asked for lie on the table."""
        return self in (Setting.DISTRACTORS, Setting.RANDOMIZED)

    @property
    def has_textures(self) -> bool:
        """Whether the textures are others than in training."""
        return self in (Setting.UNSEEN_TEXTURE, Setting.RANDOMIZED)

    @property
    def has_light(self) -> bool:
        """Whether the light is another than in training."""
        return self in (Setting.UNSEEN_LIGHT, Setting.RANDOMIZED)


@dataclass(frozen=True, slots=True)
class Spot:
    """Region where an object may stand. Spots are filled in order; an object keeps clear of those placed before.

    Attributes:
        item: the object; `ITEM` is the one of the variant.
        region: where the centre of its foot may be [m]: in the world, or with `on` in the frame of that object, from
            its deck upwards.
        on: the object that it stands on or in, placed before; None for the table.
        yaw: range of the turn about the vertical [rad], added to that of `on`.
        overlaps: it may come closer to the others than the clearance; always so for what stands on something.
    """

    item: str
    region: Region
    on: str | None = None
    yaw: tuple[float, float] = (-math.pi, math.pi)
    overlaps: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """What varies between the episodes of one task besides placement. Seed s takes variant s modulo their number.

    Attributes:
        name: for tables, e.g. "blue cube".
        words: field of the instruction template -> text.
        objects: optional objects that are on the table in this variant.
    """

    name: str
    words: tuple[tuple[str, str], ...] = ()
    objects: tuple[str, ...] = ()

    @property
    def item(self) -> str:
        """The object that `ITEM` stands for: the first one."""
        return self.objects[0]


@dataclass(frozen=True, slots=True)
class TaskStage:
    """One step of progress.

    Attributes:
        name: a verb in the past tense: "grasped".
        criterion: what must hold.
        hold: for how long, without a break [s].
    """

    name: str
    criterion: Criterion
    hold: float = 0.0


Stages = tuple[TaskStage, TaskStage, TaskStage]


@dataclass(frozen=True, slots=True)
class Task:
    """A task of one robot.

    Attributes:
        name: unique; starts with the robot's.
        robot: name of the robot file.
        title: one line for people.
        instruction: template; fields in braces are words of the variant.
        objects: every object of every variant, fixtures as well.
        spots: where they may stand.
        variants: kinds of episodes, one at least.
        stages: variant -> three stages; a stage counts once the one before it has been reached, and the task has
            succeeded when the last one is. Their names are the same for every variant.
        time_limit: [s].
        clearance: least distance of two footprints [m].
        unseen: variants for `Setting.UNSEEN_OBJECTS`.
        distractors: objects for `Setting.DISTRACTORS`.
        distractor_region: where they may stand.
        textures: of the table in training, one of them by the seed; empty for the plain one.
        sliding: variant -> what slides under `Setting.MOVED_TARGET`; None where nothing can.
    """

    name: str
    robot: str
    title: str
    instruction: str
    objects: tuple[SceneObject, ...]
    spots: tuple[Spot, ...]
    variants: tuple[Variant, ...]
    stages: Callable[[Variant], Stages]
    time_limit: float
    clearance: float = 0.02
    unseen: tuple[Variant, ...] = ()
    distractors: tuple[SceneObject, ...] = ()
    distractor_region: Region | None = None
    textures: tuple[Texture, ...] = ()
    sliding: Callable[[Variant], Sliding] | None = None

    def __post_init__(self) -> None:
        names = [item.name for item in (*self.objects, *self.distractors)]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name}: two objects share a name in {names}")
        if not self.variants or not self.time_limit > 0:
            raise ValueError(f"{self.name}: a task has a variant and a positive time limit")
        if any(setting.has_distractors for setting in self.settings) and self.distractor_region is None:
            raise ValueError(f"{self.name}: distractors need a region")
        for variant in (*self.variants, *self.unseen):
            unknown = set(variant.objects) - set(names)
            if unknown:
                raise ValueError(f"{self.name}: variant {variant.name} has unknown objects {sorted(unknown)}")
            Instruction(self.text(variant))
            if tuple(stage.name for stage in self.stages(variant)) != self.stage_names:
                raise ValueError(f"{self.name}: stages of {variant.name} have other names")
        for spot in self.spots:
            for name in (spot.item, spot.on):
                if name not in (None, ITEM, *names):
                    raise ValueError(f"{self.name}: a spot names the unknown object {name!r}")

    @property
    def stage_names(self) -> tuple[str, str, str]:
        """Names of the stages, in order."""
        first, second, third = self.stages(self.variants[0])
        return (first.name, second.name, third.name)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Settings that the task can be set under."""
        return tuple(
            setting
            for setting in Setting
            if (self.distractors or not setting.has_distractors)
            and (self.unseen or setting is not Setting.UNSEEN_OBJECTS)
            and (self.sliding or setting is not Setting.MOVED_TARGET)
        )

    def text(self, variant: Variant) -> str:
        """Return the instruction of `variant`."""
        return self.instruction.format(**dict(variant.words))

    def variants_of(self, setting: Setting) -> tuple[Variant, ...]:
        """Return the kinds of episodes under `setting`."""
        return self.unseen if setting is Setting.UNSEEN_OBJECTS else self.variants

    def optional(self) -> frozenset[str]:
        """Return the objects that only some variants have."""
        return frozenset(name for variant in (*self.variants, *self.unseen) for name in variant.objects)
