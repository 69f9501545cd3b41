# SPDX-License-Identifier: Apache-2.0
"""The simulated tasks of wam_deploy for gymnasium and LeRobot. Simulation only: no safety layer is in between.

Importing it registers `lerobot_env_wam/TASK` with gymnasium for every task, and, where LeRobot is installed, the
environment type `wam` with LeRobot, which imports this package by the name of its distribution.
"""

from __future__ import annotations

import importlib.util

from lerobot_env_wam.env import WamEnv, register_tasks

__all__ = ["WamEnv", "register_tasks"]

register_tasks()
if importlib.util.find_spec("lerobot") is not None:
    import lerobot_env_wam.config  # noqa: F401
