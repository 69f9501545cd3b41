# SPDX-License-Identifier: Apache-2.0
"""From camera images to the backbone's input, in the steps of GR00T-N1's deployment.

middle 95 % of the image -> resized in floats (widened bilinear) -> bytes, rounded down -> [-1, 1]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wam.core.errors import ImageError
from wam.models.images import require_cameras, resize_float

DEFAULT_CROP = 0.95


def crop_window(height: int, width: int, *, crop: float) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the middle part of an image [px]."""
    rows, columns = int(height * crop), int(width * crop)
    return round((height - rows) / 2), round((width - columns) / 2), rows, columns


def prepare(
    image_HW3: npt.NDArray[np.uint8], *, size: tuple[int, int], window: tuple[int, int, int, int]
) -> Tensor:
    """Return float32 [3, *size] in [-1, 1] of the window of one image."""
    top, left, rows, columns = window
    # Torch warns about read-only memory; frames are read-only by design, so the part is copied.
    part = np.array(image_HW3[top : top + rows, left : left + columns].transpose(2, 0, 1), order="C")
    pixels = torch.from_numpy(part).float() / 255.0
    resized = resize_float(pixels[None], height=size[0], width=size[1])[0].clamp(0, 1)
    return (resized * 255.0).byte().float() / 127.5 - 1.0


def prepare_views(
    views: Mapping[str, npt.NDArray[np.uint8]], cameras: Sequence[str], *, size: tuple[int, int], crop: float
) -> Tensor:
    """Prepare the newest view of every camera for deployment.

    Args:
        views: camera -> uint8 [H, W, 3], any size.
        cameras: in the order of the policy's input.
        size: rows and columns that the backbone sees [px].
        crop: part of each side that is kept.

    Returns:
        float32 [V, 3, *size] in [-1, 1].

    Raises:
        ImageError: a camera has no view, or one that is too small to crop.
    """
    out = []
    require_cameras(views, cameras)
    for camera in cameras:
        window = crop_window(*views[camera].shape[:2], crop=crop)
        if min(window[2:]) < 1:
            raise ImageError(
                f"image of camera {camera!r}", value=views[camera].shape, allowed="at least 2 x 2 pixels"
            )
        out.append(prepare(views[camera], size=size, window=window))
    return torch.stack(out)
