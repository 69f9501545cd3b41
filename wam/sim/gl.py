# SPDX-License-Identifier: Apache-2.0
"""What keeps images from being rendered here, and what helps. Does not import MuJoCo, which may refuse to be."""

from __future__ import annotations

from collections.abc import Mapping

from wam.core.errors import CannotRender

VARIABLE = "MUJOCO_GL"
DEBIAN_PACKAGES = "libegl1 libgl1-mesa-dri"
UNSET = "unset it, or set it to egl"


def rendering_remedy(environment: Mapping[str, str]) -> str:
    """Return what helps where EGL cannot be used: the variable if it asks for something else, or else packages."""
    value = environment.get(VARIABLE, "")
    if value.strip().lower() not in ("", "egl"):
        return f"{VARIABLE} is {value!r}: {UNSET}"
    platform = environment.get("PYOPENGL_PLATFORM", "")
    if platform not in ("", "egl"):
        return f"PYOPENGL_PLATFORM is {platform!r}: {UNSET}"
    return f"apt install {DEBIAN_PACKAGES}"


def refusal_of_mujoco(error: RuntimeError, environment: Mapping[str, str]) -> CannotRender | None:
    """Return what `import mujoco` means by its refusal of the variable; None for any other error."""
    if VARIABLE not in str(error):
        return None
    value = environment.get(VARIABLE, "")
    return CannotRender(f"environment variable {VARIABLE}", value=value, allowed=UNSET)
