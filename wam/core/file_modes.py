# SPDX-License-Identifier: Apache-2.0
"""Modes of files that a library or `tempfile` makes for their owner alone, although others may read what is beside."""

from __future__ import annotations

import os
from pathlib import Path


def make_public(path: Path) -> None:
    """Give a file or folder the mode that this process gives to new ones, by its umask."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
