# SPDX-License-Identifier: Apache-2.0
"""What keeps images and windows from being shown here, and what helps. Does not import MuJoCo, which may refuse."""

from __future__ import annotations

from collections.abc import Mapping

from wam.core.errors import CannotRender, MachineFault

VARIABLE = "MUJOCO_GL"
DEBIAN_PACKAGES = "libegl1 libgl1-mesa-dri"
UNSET = "unset it, or set it to egl"
DISPLAYS = ("WAYLAND_DISPLAY", "DISPLAY")
WITH_DISPLAY = "run it in a desktop session or over `ssh -X`, or watch without a display (--rerun FILE.rrd)"


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


def has_display(environment: Mapping[str, str]) -> bool:
    """Return whether the environment names a display."""
    return any(environment.get(name) for name in DISPLAYS)


def refusal_of_window(reason: str, environment: Mapping[str, str]) -> MachineFault:
    """Return the error of a machine on which no window opens.

    Args:
        reason: what the library for windows said.
        environment: names the display, if there is one.
    """
    if not has_display(environment):
        return MachineFault(f"there is no display ({' and '.join(DISPLAYS)} are not set): {WITH_DISPLAY}")
    named = ", ".join(f"{name}={environment[name]}" for name in DISPLAYS if environment.get(name))
    return MachineFault(f"no window can be opened on the display {named} ({reason}): {WITH_DISPLAY}")
