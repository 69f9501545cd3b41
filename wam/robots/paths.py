# SPDX-License-Identifier: Apache-2.0
"""Where config/ and urdf/ lie: beside the package in a checkout, in `share/wam_deploy` of an installation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from wam.core.errors import ConfigError

PACKAGE = "wam_deploy"


def share_roots() -> Iterator[Path]:
    """Yield the directories that may hold config/ and urdf/, best first; those that lack config/ are left out."""
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    here = Path(__file__).resolve().parents[2:]
    # A wheel's files lie below the prefix whose lib/pythonX/site-packages holds the package, or beside the package
    # (pip install --target); the prefix is that of the environment, of the user (--user) or of Debian (/usr/local).
    candidates = [here[0], *(place / "share" / PACKAGE for place in here[:4])]
    candidates += [Path(prefix) / "share" / PACKAGE for prefix in (*prefixes, sys.prefix)]
    for root in dict.fromkeys(candidates):
        if (root / "config" / "robots").is_dir():
            yield root


def share_root() -> Path:
    """Return the directory that holds config/ and urdf/.

    Raises:
        ConfigError: there is none; the text names the places looked at.
    """
    for root in share_roots():
        return root
    raise ConfigError(
        "config/robots was not found",
        allowed=f"beside the package in a checkout, or share/{PACKAGE} of a prefix in AMENT_PREFIX_PATH "
        f"or of {sys.prefix}",
        where="the installation (colcon build, or run from a checkout)",
    )


def config_dir() -> Path:
    """Return the directory config/.

    Raises:
        ConfigError: it was not found.
    """
    return share_root() / "config"


def urdf_dir() -> Path:
    """Return the directory urdf/.

    Raises:
        ConfigError: config/ beside which it stands was not found.
    """
    return share_root() / "urdf"
