# SPDX-License-Identifier: Apache-2.0
"""Colours of what a report says."""

from __future__ import annotations

import enum


class Tone(enum.Enum):
    """Colour of a verdict, an answer or a tile."""

    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    PLAIN = "plain"
