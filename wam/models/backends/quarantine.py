# SPDX-License-Identifier: Apache-2.0
"""What failed while a robot moved is not taken again at the next start.

    <place>/<backend>-<stage>.json    why, and what it was made for

A graph or an engine that failed is kept out by its own store, until it is made again. This is for backends that keep
nothing on disk: captured graphs, own kernels, compiled layers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from wam.models.backends.artefacts import replace_file

FORMAT = 1


class Quarantine:
    """Notes of failures of one policy's stages.

    Args:
        place: folder; None keeps nothing.
        made_for: contract, versions and device; a failure with others says nothing.
    """

    def __init__(self, place: Path | None = None, *, made_for: Mapping[str, str] | None = None) -> None:
        self._place, self._made_for = place, dict(made_for or {})

    def reason(self, stage: str, backend: str) -> str:
        """Return why a backend is not to run a stage, with the remedy; "" where it may."""
        path = self._path(stage, backend)
        if path is None or not path.is_file():
            return ""
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            if note["format"] != FORMAT or note["made_for"] != self._made_for:
                return ""
            why = str(note["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            # A note that cannot be read costs the time of one more failure, nothing else.
            return ""
        return f"it failed before while it ran ({why}); to take it again: rm {path}"

    def add(self, stage: str, backend: str, reason: str) -> None:
        """Note a failure; a folder that cannot be written costs the time of the next one."""
        path = self._path(stage, backend)
        if path is None:
            return
        note = {"format": FORMAT, "made_for": self._made_for, "reason": reason}
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(path, json.dumps(note, indent=1).encode("utf-8"))
        except OSError:
            pass

    def _path(self, stage: str, backend: str) -> Path | None:
        return None if self._place is None else self._place / f"{backend}-{stage}.json"
