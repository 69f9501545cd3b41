# SPDX-License-Identifier: Apache-2.0
"""Which extra of the package brings a Python module: the one place that says what to install.

`pip install 'wam_deploy[sim]'` in an environment where the package is installed, in whatever way, takes nothing of
that name from an index: pip reads the installed package's own requirements and installs those that are missing.
"""

from __future__ import annotations

from collections.abc import Mapping

from wam.core.errors import MissingDependency

PACKAGE = "wam_deploy"
BARE = ""
"""The installation without an extra."""

MODULES: Mapping[str, tuple[str, ...]] = {
    BARE: (
        "numpy", "scipy", "yaml", "typer", "rich", "jinja2", "matplotlib", "cv2", "plotly", "PIL", "lz4", "rosbags",
        "mcap", "pydantic",
        "pyarrow", "av", "psutil", "xacro", "ruckig", "pinocchio", "coal", "backports", "markupsafe",
    ),
    "replay": (
        "torch", "safetensors", "onnxruntime", "einops", "diffusers", "transformers", "tokenizers", "ftfy", "regex",
    ),
    "sim": ("mujoco", "OpenGL"),
    "train": ("tensorboard",),
    "drivers": ("pymodbus", "serial"),
    "security": ("cryptography",),
    "export": ("onnx", "onnxscript"),
    "gpu": ("triton",),
    "tensorrt": ("tensorrt",),
    "rerun": ("rerun",),
    "ray": ("ray",),
}  # fmt: skip
"""Extra -> the modules that it brings beside the bare installation; setup.py says which packages these are."""

VERBS: Mapping[str, str] = {
    "demo": "sim", "sim": "sim", "eval": "sim", "soak": "sim", "train": "train", "distill": "train",
    "export": "export", "build-engine": "tensorrt",
}  # fmt: skip
"""Verb of `wam` -> the extra that has all of what it needs from PyPI."""

WITH_MODEL = ("sim", "train", "export", "tensorrt")
"""Extras that bring what the extra `replay` brings."""

ROS = "run `make setup` in a checkout, or source a ROS 2 distribution"
MESSAGES = "run `make setup` in a checkout, or `tools/colcon_build.sh` and source the result"


def extra_of(module: str, *, verb: str = "") -> str | None:
    """Return the extra that brings a top-level module, BARE for the bare installation, None for a module of no extra.

    Args:
        module: e.g. "torch".
        verb: of `wam`, which needs it: of several extras that have the module, the verb's own is the better advice.
    """
    for extra, modules in MODULES.items():
        if module in modules:
            wanted = VERBS.get(verb)
            return wanted if extra == "replay" and wanted in WITH_MODEL else extra
    return None


def command_for(extra: str) -> str:
    """Return the command that installs an extra; it names one that is on no index nowhere."""
    return f"pip install '{PACKAGE}[{extra}]'" if extra else f"pip install {PACKAGE}"


def remedy(module: str, *, verb: str = "") -> str:
    """Return what to do about a missing module, e.g. "pip install 'wam_deploy[sim]'"."""
    top = module.partition(".")[0]
    extra = extra_of(top, verb=verb)
    if extra is not None:
        return command_for(extra)
    if top == "wam_msgs":
        return MESSAGES
    if top in ("rclpy", "rcl_interfaces", "launch", "launch_ros", "ament_index_python") or top.endswith(
        "_msgs"
    ):
        return ROS
    return f"pip install {top}, or in a checkout run `make setup`"


def missing(what: str, module: str, *, verb: str = "") -> MissingDependency:
    """Return the error for a part that needs a module which is not installed.

    Args:
        what: who needs what, e.g. "kinematics need Pinocchio".
        module: the module that could not be imported.
        verb: of `wam`, where one is known.
    """
    return MissingDependency(f"{what}, which is not installed; {remedy(module, verb=verb)}")
