# SPDX-License-Identifier: Apache-2.0
"""Survey of whatever lies at a path."""

from __future__ import annotations

from pathlib import Path

from wam.core.errors import RecordingError
from wam.data.survey.bag import survey_bag
from wam.data.survey.dataset import survey_dataset
from wam.data.survey.values import BagSurvey, DatasetSurvey


def survey(path: Path) -> BagSurvey | DatasetSurvey:
    """Return what the recording or the data set at `path` holds.

    Args:
        path: rosbag2 folder, storage file (.mcap, .db3, ROS 1 .bag), or folder of a LeRobot data set.

    Raises:
        RecordingError: there is nothing, or nothing that can be read.
    """
    try:
        if not path.exists():
            raise RecordingError(f"{path} does not exist", where="the argument")
        return survey_dataset(path) if is_dataset(path) else survey_bag(path)
    except OSError as error:
        raise RecordingError(
            f"{error.filename or path} cannot be read ({error.strerror or error})", where="its permissions"
        ) from error


def is_dataset(path: Path) -> bool:
    """Return whether a path is, or looks like, the folder of a LeRobot data set.

    A folder with meta/ but without meta/info.json is one too: what it lacks is then told.
    """
    return (path / "meta").is_dir() and not (path / "metadata.yaml").is_file()
