# SPDX-License-Identifier: Apache-2.0
"""Check of whatever lies at a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wam.core.errors import RecordingError
from wam.data.bag.binding import TopicNames
from wam.data.survey.survey import is_dataset
from wam.evaluation.check.bag import check_bag
from wam.evaluation.check.dataset import check_dataset
from wam.evaluation.check.problem import CheckReport
from wam.robots.description import RobotDescription


def check_recording(
    path: Path,
    *,
    robot: RobotDescription | None = None,
    names: TopicNames | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckReport:
    """Return all problems of the recording or the data set at `path`; everything in it is read.

    Args:
        path: rosbag2 folder, storage file (.mcap, .db3, ROS 1 .bag), or folder of a LeRobot data set.
        robot: whose recording it is; None checks what can be checked without.
        names: topics of a bag that differ from the robot file.
        progress: called with messages or episodes done and in all.

    Raises:
        RecordingError: there is nothing at `path`, or nothing that may be read.
    """
    try:
        if not path.exists():
            raise RecordingError(f"{path} does not exist", where="the argument")
        if is_dataset(path):
            return check_dataset(path, robot=robot, progress=progress)
        return check_bag(path, robot=robot, names=names or TopicNames(), progress=progress)
    except OSError as error:
        raise RecordingError(
            f"{error.filename or path} cannot be read ({error.strerror or error})", where="its permissions"
        ) from error
