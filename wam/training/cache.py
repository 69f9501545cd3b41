# SPDX-License-Identifier: Apache-2.0
"""Files with what a frozen network makes of every row of an episode, computed once per data set.

The name of a file holds a digest of all it depends on, so a file made for anything else is never read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from wam.training.episodes import VideoTable


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 (hex) over names and values; of large tensors every 997th number counts."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        flat = tensor.detach().flatten()
        step = 997 if flat.numel() > 1 << 20 else 1
        digest.update(name.encode("utf-8"))
        digest.update(flat[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def ignore_episodes(done: int, episodes: int) -> None:
    """Do nothing: for caches that are filled without a listener."""


def fill_cache(
    directory: Path,
    table: VideoTable,
    *,
    depends: Callable[[int], tuple[object, ...]],
    compute: Callable[[int], dict[str, Tensor]],
    rank: int = 0,
    world: int = 1,
    metadata: dict[str, str] | None = None,
    on_episode: Callable[[int, int], None] = ignore_episodes,
) -> dict[int, Path]:
    """Compute the files that are not on disk yet.

    Args:
        directory: of the cache; is made.
        table: the episodes.
        depends: returns what the file of an episode depends on besides the episode itself; its `repr` counts.
        compute: returns the tensors of an episode, on the CPU. Both are given its position in the table.
        rank: number of this process; it computes every `world`-th episode.
        world: number of processes.
        metadata: of each file.
        on_episode: is given, before every episode and at the end, how many of how many are done.

    Returns:
        Position of the episode in the table -> its file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files: dict[int, Path] = {}
    for place, episode in enumerate(table.episodes):
        on_episode(place, len(table.episodes))
        data = table.dataset
        stored = (episode.index, episode.length, data.fps, episode.data_path.stat().st_size)
        key = (*depends(place), str(data.root.resolve()), stored)
        name = hashlib.sha256(repr(key).encode("utf-8")).hexdigest()[:24]
        files[place] = directory / f"episode_{episode.index:06d}_{name}.safetensors"
        if files[place].is_file() or place % world != rank:
            continue
        scratch = files[place].with_suffix(f".{os.getpid()}.tmp")
        save_file(compute(place), scratch, metadata=metadata)
        scratch.rename(files[place])
    on_episode(len(table.episodes), len(table.episodes))
    return files
