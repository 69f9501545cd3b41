# SPDX-License-Identifier: Apache-2.0
"""Images of a recording that can be read and not be decoded: counted as losses, refused where there are no others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from wam.core.errors import RecordingError
from wam.data.bag.binding import Binding, Role
from wam.data.bag.losses import LossTally, RecordingLoss, Times

MOST_DAMAGED = 50
"""Damaged images before the first chunk that end a replay: there may be no whole one."""


class DamagedImages:
    """Counts damaged images by topic.

    Args:
        bag: the recording, for errors.
        binding: tells the topic of a camera.
    """

    def __init__(self, bag: Path, binding: Binding) -> None:
        self._bag = bag
        self._topics = {
            feed.camera: feed.topic for feed in binding.feeds.values() if feed.role is Role.CAMERA
        }
        self._tally = LossTally()

    def take(self, damaged: Iterable[tuple[str, int]], *, any_chunk: bool) -> None:
        """Count images.

        Args:
            damaged: camera and stamp [ns] of each.
            any_chunk: whether a chunk has come out, which shows that there are whole images.

        Raises:
            RecordingError: there was none but damaged ones.
        """
        for camera, stamp_ns in damaged:
            topic = self._topics[camera]
            self._tally.add(topic, f"images of {topic} are damaged", stamp_ns)
            if not any_chunk and self._tally.count(topic) >= MOST_DAMAGED:
                raise RecordingError(
                    f"the first {MOST_DAMAGED} images of {topic} in {self._bag} are damaged",
                    allowed="complete images, in a form that the camera's entry in the robot file names",
                    where="the recording, or --remap",
                )

    def losses(self, kept: Mapping[str, Times]) -> tuple[RecordingLoss, ...]:
        """Return the losses; see `LossTally.losses`."""
        return self._tally.losses(kept)
