# SPDX-License-Identifier: Apache-2.0
"""From camera images to one composite: several views resized and laid side by side.

The release resizes in two ways: at deployment the raw view goes to its tile in one bilinear step on bytes;
in training it passes through 240 x 320 first, in floats. Both are here; they differ by at most one level.

Shapes: H, W pixels; images are uint8 [H, W, 3] (numpy) or float [3, H, W] in [-1, 1] (torch).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from wam.core.errors import ImageError

TRAIN_SIZE = (240, 320)


@dataclass(frozen=True, slots=True)
class ImageTile:
    """Position and size of one camera's view in the composite image [px].

    Attributes:
        camera: name of the camera.
        top: first row.
        left: first column.
        height: rows.
        width: columns.
    """

    camera: str
    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Composite:
    """Layout of the image that the VAE sees.

    Attributes:
        height: rows [px].
        width: columns [px].
        tiles: they cover it exactly once.
    """

    height: int
    width: int
    tiles: tuple[ImageTile, ...]

    def __post_init__(self) -> None:
        covered = np.zeros((self.height, self.width), dtype=np.int64)
        for tile in self.tiles:
            inside = tile.top >= 0 and tile.left >= 0
            inside = inside and tile.top + tile.height <= self.height and tile.left + tile.width <= self.width
            if not inside or tile.height < 1 or tile.width < 1:
                raise ValueError(f"tile {tile} does not lie in a composite of {self.height} x {self.width}")
            covered[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
        if not (covered == 1).all():
            raise ValueError(
                f"the tiles do not cover {self.height} x {self.width} exactly once: {self.tiles}"
            )
        if len({t.camera for t in self.tiles}) != len(self.tiles):
            raise ValueError(f"a camera has two tiles: {self.tiles}")


def standard_layout(cameras: Sequence[str], *, height: int, width: int) -> Composite:
    """Return the layouts of the released checkpoints.

    One camera fills the image; two stand side by side; of three, the first lies on top of the others and
    takes two thirds of the height.

    Raises:
        ValueError: another number of cameras, or sizes that do not divide.
    """
    if len(cameras) == 1:
        return Composite(height, width, (ImageTile(cameras[0], 0, 0, height, width),))
    if len(cameras) not in (2, 3) or width % 2 or (height % 3 and len(cameras) == 3):
        raise ValueError(f"no standard layout of {len(cameras)} cameras in {height} x {width}")
    half = width // 2
    top = 2 * height // 3 if len(cameras) == 3 else 0
    lower = cameras[-2:]
    tiles = [ImageTile(name, top, i * half, height - top, half) for i, name in enumerate(lower)]
    if top:
        tiles.insert(0, ImageTile(cameras[0], 0, 0, top, width))
    return Composite(height, width, tuple(tiles))


def resize_bytes(image_HW3: npt.NDArray[np.uint8], *, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize bytes with Pillow's bilinear filter, as the release does at deployment.

    Torch's antialiased filter on bytes differs from it by one level in a pixel out of six hundred.

    Args:
        image_HW3: uint8.
        height: rows of the result.
        width: columns of the result.
    """
    if image_HW3.shape[:2] == (height, width):
        return image_HW3
    return np.asarray(Image.fromarray(image_HW3).resize((width, height), Image.Resampling.BILINEAR))


def resize_float(images_N3HW: Tensor, *, height: int, width: int) -> Tensor:
    """Resize floats with an antialiased bilinear filter."""
    return F.interpolate(images_N3HW, size=(height, width), mode="bilinear", antialias=True)


def require_cameras(views: Iterable[str], cameras: Sequence[str]) -> None:
    """Refuse an observation without an image of every camera of the policy.

    Args:
        views: cameras that have an image.
        cameras: of the policy.

    Raises:
        ImageError: names the first camera without an image.
    """
    have = set(views)
    for camera in cameras:
        if camera not in have:
            raise ImageError(
                f"no image of camera {camera!r}",
                value=sorted(have),
                allowed=f"all of {list(cameras)}",
                where="the cameras of the robot file, or the policy's cameras",
            )


def compose(views: Mapping[str, npt.NDArray[np.uint8]], layout: Composite) -> npt.NDArray[np.uint8]:
    """Compose the newest views for deployment.

    Args:
        views: camera -> uint8 [H, W, 3], any size.
        layout: tiles of the policy.

    Returns:
        uint8 [layout.height, layout.width, 3].

    Raises:
        ImageError: a camera of the layout has no view.
    """
    out = np.empty((layout.height, layout.width, 3), dtype=np.uint8)
    require_cameras(views, [tile.camera for tile in layout.tiles])
    for tile in layout.tiles:
        view = resize_bytes(views[tile.camera], height=tile.height, width=tile.width)
        out[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = view
    return out


def compose_training(views_N3HW: Mapping[str, Tensor], layout: Composite) -> Tensor:
    """Compose video views for training: via 240 x 320, in floats.

    Args:
        views_N3HW: camera -> uint8 [N, 3, H, W].
        layout: tiles of the policy.

    Returns:
        float32 [3, N, height, width] in [-1, 1].
    """
    first = next(iter(views_N3HW.values()))
    out = torch.empty((len(first), 3, layout.height, layout.width))
    for tile in layout.tiles:
        view = views_N3HW[tile.camera].float() / 255
        if tuple(view.shape[-2:]) != TRAIN_SIZE:
            view = resize_float(view, height=TRAIN_SIZE[0], width=TRAIN_SIZE[1])
        view = resize_float(view, height=tile.height, width=tile.width)
        out[:, :, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = view
    return ((out - 0.5) / 0.5).transpose(0, 1)


def to_model_pixels(image: npt.NDArray[np.uint8], *, device: torch.device | str = "cpu") -> Tensor:
    """Return float32 [1, 3, H, W] in [-1, 1] of a composite [H, W, 3]; bytes are copied to the device, not floats."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return (pixels.permute(2, 0, 1)[None].float() * (2.0 / 255.0) - 1.0).contiguous()
