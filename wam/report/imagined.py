# SPDX-License-Identifier: Apache-2.0
"""Camera images that a policy predicted, next to the recorded ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from wam.core.clock import NS_PER_S
from wam.core.observation import CameraFrame, Rgb
from wam.report.page import Section, Strip, evenly, picture

PAIRS_SHOWN = 6
PAIR_WIDTH = 480
GAP = 6
"""White between the two images [px]."""


@dataclass(frozen=True, slots=True)
class ImaginedRecord:
    """One predicted image.

    Attributes:
        imagined: the predicted image; its stamp is the time it was predicted for.
        observed: the first image of that camera from that time on; None where none came.
    """

    imagined: CameraFrame
    observed: CameraFrame | None


class ImaginedPairs:
    """Collects expected images, a few per camera, each with the first image that came from its time on.

    Args:
        period_ns: least time between two that are kept of a camera [ns].
    """

    def __init__(self, *, period_ns: int) -> None:
        self._period_ns = period_ns
        self._expected: list[CameraFrame] = []
        self._seen: dict[int, CameraFrame] = {}

    def wants(self, camera: str, stamp_ns: int) -> bool:
        """Return whether an image expected for `stamp_ns` would be kept; others need not be decoded."""
        kept = (frame.stamp_ns for frame in reversed(self._expected) if frame.camera == camera)
        newest = next(kept, None)
        return newest is None or abs(stamp_ns - newest) >= self._period_ns

    def expect(self, frame: CameraFrame) -> None:
        """Keep an expected image."""
        self._expected.append(frame)

    def see(self, camera: str, stamp_ns: int, decode: Callable[[], Rgb]) -> None:
        """Take an image of a camera where one is waited for; others are not decoded."""
        for place, frame in enumerate(self._expected):
            if frame.camera == camera and place not in self._seen and frame.stamp_ns <= stamp_ns:
                self._seen[place] = CameraFrame(camera, stamp_ns, decode())

    def records(self) -> tuple[ImaginedRecord, ...]:
        """Return what has come so far."""
        return tuple(ImaginedRecord(frame, self._seen.get(i)) for i, frame in enumerate(self._expected))


def imagined_section(records: Sequence[ImaginedRecord], *, start_ns: int) -> Section | None:
    """Return the section of a report: per camera a few pairs, left imagined, right observed; None without any.

    Args:
        records: in order of time.
        start_ns: begin of the run [ns].
    """
    pairs = [(record.imagined, record.observed) for record in records if record.observed is not None]
    strips = []
    for camera in dict.fromkeys(imagined.camera for imagined, _ in pairs):
        chosen = [pair for pair in pairs if pair[0].camera == camera]
        pictures = tuple(
            picture(
                side_by_side(chosen[i][0].rgb, chosen[i][1].rgb),
                caption=f"for {_seconds(chosen[i][0], start_ns)}, seen at {_seconds(chosen[i][1], start_ns)}",
                width=PAIR_WIDTH,
            )
            for i in evenly(len(chosen), PAIRS_SHOWN)
        )
        strips.append(Strip(pictures, caption=f"camera {camera}", wide=True))
    if not strips:
        return None
    return Section(
        "Imagined images",
        tuple(strips),
        intro="Left: what the policy predicted for the end of a chunk; right: what the camera recorded then. "
        "Tiny policies have random weights and predict noise.",
    )


def side_by_side(left: Rgb, right: Rgb) -> Rgb:
    """Return both images in one, in the shape of the right one; policies see squares of whatever was recorded."""
    height, width = right.shape[:2]
    fitted = cv2.resize(left, (width, height), interpolation=cv2.INTER_NEAREST)
    gap = np.full((height, GAP, 3), 255, dtype=np.uint8)
    joined: Rgb = np.concatenate((fitted, gap, right), axis=1)
    return joined


def _seconds(frame: CameraFrame, start_ns: int) -> str:
    return f"{(frame.stamp_ns - start_ns) / NS_PER_S:.2f} s"
