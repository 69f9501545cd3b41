# SPDX-License-Identifier: Apache-2.0
"""What `torch.compile` has made of a policy's stages, kept between starts.

    <place>/<stage>.bin     the compiler's own format: traced graphs, code, what it has timed
    <place>/<stage>.json    what it was made for, size and SHA-256

It holds code, which runs with the rights of whoever loads it: it lies in the user's cache alone, never in a bundle, and
not in a folder that everybody may write to. One that is damaged, or that was made for something else, is not read: the
next start compiles anew and replaces it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import stat
from collections.abc import Mapping
from pathlib import Path

import torch

from wam.models.backends.artefacts import replace_file

FORMAT = 1


class CompileCache:
    """Keeps what was compiled for the stages of one policy.

    The compiler hands out everything that it has made in this process, so a stage's file may hold more than its own.

    Args:
        place: folder.
        made_for: everything that it depends on, see `compile_versions`.

    Attributes:
        told: stage -> why what is kept of it was not read.
    """

    def __init__(self, place: Path, *, made_for: Mapping[str, str]) -> None:
        self._place, self._made_for = place, dict(made_for)
        self._read: set[str] = set()
        self.told: dict[str, str] = {}

    def load(self, stage: str) -> None:
        """Hand what is kept to the compiler, once; whatever is wrong with it is no error, but told."""
        if stage in self._read or stage in self.told or not self._manifest(stage).is_file():
            return
        try:
            data = self._checked(stage)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.told[stage] = f"{self._data(stage)}: {error}; it is compiled anew"
            return
        if torch.compiler.load_cache_artifacts(data) is None:
            self.told[stage] = f"{self._data(stage)}: the compiler does not read it; it is compiled anew"
            return
        self._read.add(stage)

    def save(self, stage: str) -> None:
        """Keep what was compiled, unless it was read; a folder that cannot be written costs time only."""
        if stage in self._read:
            return
        made = torch.compiler.save_cache_artifacts()
        if made is None:
            return
        data = bytes(made[0])
        manifest = {
            "format": FORMAT,
            "made_for": self._made_for,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        try:
            self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(self._data(stage), data)
            replace_file(self._manifest(stage), json.dumps(manifest, indent=1).encode("utf-8"))
        except OSError:
            pass

    def forget(self, stage: str) -> None:
        """Remove what is kept of a stage."""
        for path in (self._manifest(stage), self._data(stage)):
            path.unlink(missing_ok=True)

    def _data(self, stage: str) -> Path:
        return self._place / f"{stage}.bin"

    def _manifest(self, stage: str) -> Path:
        return self._place / f"{stage}.json"

    def _checked(self, stage: str) -> bytes:
        place = self._place
        if place.stat().st_mode & stat.S_IWOTH:
            raise ValueError(f"everybody may write to {place} (chmod o-w {place})")
        manifest = json.loads(self._manifest(stage).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or manifest["made_for"] != self._made_for:
            raise ValueError("it was made for other versions, another device or another policy")
        data = self._data(stage).read_bytes()
        if len(data) != manifest["size"]:
            raise ValueError(f"truncated: {len(data)} of {manifest['size']} bytes")
        if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
            raise ValueError("damaged: its SHA-256 is another")
        return data


def compile_versions(device: torch.device | str, *, contract: str) -> dict[str, str]:
    """Return everything that compiled stages depend on, but for the stages themselves, which the compiler checks."""
    device = torch.device(device)
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = ""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "contract": contract,
        "torch": torch.__version__,
        "triton": triton,
        "python": platform.python_version(),
        "device": name,
    }
