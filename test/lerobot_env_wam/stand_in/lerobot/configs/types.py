# SPDX-License-Identifier: Apache-2.0
"""Stands in for `lerobot.configs.types`: what a plugin of an environment uses of it, by LeRobot's documentation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FeatureType(str, Enum):
    """Kinds of features."""

    STATE = "STATE"
    VISUAL = "VISUAL"
    ENV = "ENV"
    ACTION = "ACTION"


@dataclass
class PolicyFeature:
    """One input or output of a policy."""

    type: FeatureType
    shape: tuple[int, ...]
