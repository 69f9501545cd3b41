# SPDX-License-Identifier: Apache-2.0
"""Names for a draft: what robot files allow, made from what was recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ILLEGAL = re.compile(r"[^A-Za-z0-9_.-]+")
_IMAGE_WORDS = frozenset(
    (
        "cameras",
        "image",
        "image_raw",
        "image_rect",
        "image_rect_color",
        "image_color",
        "compressed",
        "color",
        "rgb",
    )
) | {"ffmpeg", "h264", "compressed_video", "video", "raw"}
"""Parts of a topic's name that do not tell one camera from another."""
_STATE_WORDS = frozenset(("joint_states", "joint_state", "states", "state"))


def legal(text: str, *, otherwise: str) -> str:
    """Return a text as a name that a robot file allows: letters, digits, _, . and -, not starting with a digit.

    Args:
        text: any.
        otherwise: comes before a digit, or stands alone where nothing is left.
    """
    name = _ILLEGAL.sub("_", text).strip("_.-")
    if not name:
        return otherwise
    return name if name[0].isalpha() else f"{otherwise}_{name}"


def distinct(names: Iterable[str]) -> list[str]:
    """Return names of which no two are alike: repeated ones are numbered."""
    taken: set[str] = set()
    found = []
    for name in names:
        one, number = name, 2
        while one in taken:
            one, number = f"{name}_{number}", number + 1
        taken.add(one)
        found.append(one)
    return found


def camera_name(topic: str) -> str:
    """Return what a camera may be called by its topic: "/cam_high/image_raw/compressed" -> "cam_high"."""
    parts = [part for part in topic.strip("/").split("/") if part]
    telling = [part for part in parts if part not in _IMAGE_WORDS]
    return legal("_".join(telling) or "_".join(parts), otherwise="camera")


def group_name(topic: str) -> str:
    """Return what a joint group may be called by its topic: "/left/joint_states" -> "left"."""
    parts = [part for part in topic.strip("/").split("/") if part]
    telling = [part for part in parts if part not in _STATE_WORDS]
    last = parts[-1].removeprefix("joint_states_") if parts else ""
    return legal("_".join(telling) if telling else last if last not in _STATE_WORDS else "", otherwise="body")
