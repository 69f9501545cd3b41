# SPDX-License-Identifier: Apache-2.0
"""Images for people: a world as a PNG, an expert's episode as a GIF."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from wam.core.clock import NS_PER_S
from wam.core.observation import Rgb
from wam.sim.actors import ExpertActor
from wam.sim.experts.registry import make_expert
from wam.sim.recording.plan import disk_errors
from wam.sim.rendering import ViewRenderer, view_of
from wam.sim.rollout import EpisodeResult, Frame, RolloutOptions, rollout
from wam.sim.tasks.task import Setting, Task
from wam.sim.tasks.world import TaskWorld

GIF_COLOURS = (128, 96, 64, 48, 32)
GIF_FRAMES = 110
END_FRAMES = 8
"""How many times the last image is repeated, so that the result can be seen."""


class Filmer:
    """An observer that renders what a spectator sees.

    Args:
        world: of the roll-out.
        height: of the images [px].
        width: of the images [px].
        take: called with every image.
    """

    def __init__(self, world: TaskWorld, *, height: int, width: int, take: Callable[[Rgb], None]) -> None:
        self._world, self._take = world, take
        self._size = (height, width)
        self._renderer: ViewRenderer | None = None

    def on_frame(self, frame: Frame) -> None:
        """Render the present moment."""
        if self._renderer is None:
            height, width = self._size
            self._renderer = ViewRenderer(self._world.model, view_of(self._world), height=height, width=width)
        stamp_ns = round(self._world.time * NS_PER_S)
        self._take(self._renderer.render(self._world.snapshot(stamp_ns)))

    def close(self) -> None:
        """Free the renderer; safe to call twice."""
        if self._renderer is not None:
            self._renderer.close()


def draw_world(task: Task, *, setting: Setting, seed: int, height: int, width: int) -> Rgb:
    """Return an image of a task's world at its start, uint8 [H, W, 3].

    Raises:
        MissingDependency: images cannot be rendered here.
    """
    world = TaskWorld(task, setting=setting, seed=seed)
    renderer = ViewRenderer(world.model, view_of(world), height=height, width=width)
    try:
        return renderer.render(world.snapshot(0))
    finally:
        renderer.close()


def film_expert(
    task: Task, *, setting: Setting, seed: int, height: int, width: int, rate: float
) -> tuple[EpisodeResult, list[Rgb]]:
    """Return an episode of the task's expert with `rate` images per second [Hz] of simulated time.

    Raises:
        ConfigError: the task has no expert.
        MissingDependency: images cannot be rendered here.
    """
    world = TaskWorld(task, setting=setting, seed=seed)
    pictures: list[Rgb] = []
    filmer = Filmer(world, height=height, width=width, take=pictures.append)
    actor = ExpertActor(lambda episode: make_expert(episode.world))
    try:
        result = rollout(
            world, actor, seed=seed, options=RolloutOptions(frame_rate=rate), observers=(filmer,)
        )
    finally:
        filmer.close()
    return result, pictures


def write_png(path: Path, rgb: Rgb) -> None:
    """Write an image.

    Raises:
        RecordingError: the disk is full or fails.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())


def write_gif(path: Path, pictures: Sequence[Rgb], *, period: float, max_bytes: int) -> int:
    """Write a GIF that repeats, with as many colours as fit; returns its size [bytes].

    Args:
        path: file to write.
        pictures: uint8 [H, W, 3] each; thinned out to `GIF_FRAMES`.
        period: time between two images of the GIF [s].
        max_bytes: size that it should not exceed, as far as the smallest number of colours allows.

    Raises:
        RecordingError: the disk is full or fails.
    """
    step = -(-len(pictures) // GIF_FRAMES)
    chosen = [*pictures[::step], *[pictures[-1]] * END_FRAMES]
    data = b""
    for colours in GIF_COLOURS:
        data = _encode(chosen, colours=colours, period=period)
        if len(data) <= max_bytes:
            break
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return len(data)


def _encode(pictures: Sequence[Rgb], *, colours: int, period: float) -> bytes:
    # One palette for all pictures: whatever stands still then has the same pixels in all of them and compresses away.
    sample = Image.fromarray(np.concatenate(pictures[:: max(1, len(pictures) // 6)]))
    palette = sample.quantize(colors=colours, method=Image.Quantize.MEDIANCUT)
    frames = [Image.fromarray(one).quantize(palette=palette, dither=Image.Dither.NONE) for one in pictures]
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 * period),
        loop=0,
        optimize=False,
        disposal=1,
    )
    return buffer.getvalue()
