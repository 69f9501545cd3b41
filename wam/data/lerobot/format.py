# SPDX-License-Identifier: Apache-2.0
"""Names and places in a LeRobot data set that its reader and its writer share. Imports nothing heavy."""

from __future__ import annotations

import enum

STATE = "observation.state"
ACTION = "action"
ENVIRONMENT = "observation.environment_state"
"""Column of a simulation's ground truth, as LeRobot calls it."""
IMAGES = "observation.images."
"""What the names of camera features begin with."""

READABLE = ("v2.0", "v2.1", "v3.0")
"""Format versions that can be read."""

EPISODES_PER_CHUNK = 1000
"""Episodes in one folder, where info.json does not say otherwise."""


class Version(str, enum.Enum):
    """Format version of a data set to be written."""

    V21 = "v2.1"
    V30 = "v3.0"

    @property
    def data_path(self) -> str:
        """Template of the path of an episode's table."""
        folder = "data/" if self is Version.V30 else "data/chunk-{episode_chunk:03d}/"
        return f"{folder}{self._file}.parquet"

    @property
    def video_path(self) -> str:
        """Template of the path of an episode's video of one camera."""
        packed = self is Version.V30
        folder = "videos/{video_key}/" if packed else "videos/chunk-{episode_chunk:03d}/{video_key}/"
        return f"{folder}{self._file}.mp4"

    @property
    def _file(self) -> str:
        if self is Version.V30:
            return "chunk-{chunk_index:03d}/file-{file_index:03d}"
        return "episode_{episode_index:06d}"
