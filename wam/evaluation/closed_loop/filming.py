# SPDX-License-Identifier: Apache-2.0
"""Videos of episodes: each is encoded as it runs, the worst and the best are chosen."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from wam.core.observation import Rgb
from wam.data.lerobot.video_writer import SMALL_OPTIONS, VideoWriter
from wam.evaluation.closed_loop.scores import EpisodeRecord


class VideoChoice:
    """Keeps the videos of the worst and of the best episode, whatever the order in which they come."""

    def __init__(self) -> None:
        self._worst: tuple[EpisodeRecord, bytes] | None = None
        self._best: tuple[EpisodeRecord, bytes] | None = None

    def offer(self, episode: EpisodeRecord, video: bytes) -> None:
        """Take an episode with its MP4; an empty one is left out."""
        if not video:
            return
        if self._worst is None or _worse(episode, self._worst[0]):
            self._worst = (episode, video)
        if self._best is None or _worse(self._best[0], episode):
            self._best = (episode, video)

    def chosen(self) -> Mapping[str, bytes]:
        """Return caption -> MP4: the worst episode, and the best unless it is the same."""
        if self._worst is None or self._best is None:
            return {}
        if self._worst[0] is self._best[0]:
            return {_caption(self._worst[0]): self._worst[1]}
        return {
            f"{name}: {_caption(episode)}": data
            for name, (episode, data) in (("worst", self._worst), ("best", self._best))
        }


class Films:
    """Films one episode after another.

    Args:
        fps: pictures per second of simulated time [Hz].
    """

    def __init__(self, *, fps: float) -> None:
        self._fps = fps
        self._folder = tempfile.TemporaryDirectory(prefix="wam-films-")
        self._writer: VideoWriter | None = None
        self._path = Path()
        self._numbers = 0

    def __enter__(self) -> Films:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what is on disk."""
        self._drop()
        self._folder.cleanup()

    def add(self, *pictures: Rgb) -> None:
        """Add the pictures of one moment, side by side; those of lesser height are filled up.

        Raises:
            RecordingError: the disk does not take them.
        """
        if self._writer is None:
            self._numbers += 1
            self._path = Path(self._folder.name) / f"{self._numbers}.mp4"
            self._writer = VideoWriter(self._path, fps=self._fps, options=SMALL_OPTIONS)
        self._writer.add(_beside(pictures))

    def finish(self) -> bytes:
        """Close the running video and return it as MP4; empty where nothing was filmed."""
        if self._writer is None:
            return b""
        self._writer.finish()
        data = self._path.read_bytes()
        self._drop()
        return data

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._path.unlink(missing_ok=True)
        self._writer = None


def _worse(one: EpisodeRecord, other: EpisodeRecord) -> bool:
    """Whether `one` ranks below `other`; among equals the later seed does."""
    return (*one.rank, -one.seed) < (*other.rank, -other.seed)


def _caption(episode: EpisodeRecord) -> str:
    outcome = "success" if episode.success else "error" if episode.error else "no success"
    return f"seed {episode.seed}, {episode.variant}, {outcome}, score {episode.score}"


def _beside(pictures: tuple[Rgb, ...]) -> Rgb:
    if len(pictures) == 1:
        return pictures[0]
    height = max(len(one) for one in pictures)
    return np.concatenate([np.pad(one, ((0, height - len(one)), (0, 0), (0, 0))) for one in pictures], axis=1)
