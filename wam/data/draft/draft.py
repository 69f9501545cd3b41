# SPDX-License-Identifier: Apache-2.0
"""A draft from a recording, from a data set, or from a URDF alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from wam.core.errors import ConfigError
from wam.data.draft.from_bag import BagDraft, draft_bag
from wam.data.draft.from_dataset import DatasetDraft, draft_dataset
from wam.data.draft.joints import urdf_joint
from wam.data.draft.names import legal
from wam.data.draft.values import DraftGroup, RobotDraft
from wam.data.survey.values import BagSurvey, DatasetSurvey
from wam.robots.urdf import UrdfJoint, expand_xacro, urdf_joints


def draft_robot(
    survey: BagSurvey | DatasetSurvey, *, urdf: Path | None = None, title: str = ""
) -> RobotDraft:
    """Return a draft of the robot of a recording or of a data set.

    Args:
        survey: of it.
        urdf: URDF or xacro file that gives limits; None for none.
        title: name for people; "" makes one.

    Raises:
        RecordingError: there are no joint states.
        ConfigError: the URDF is faulty.
        MissingDependency: xacro is not installed.
    """
    model = _model(urdf)
    found: BagDraft | DatasetDraft
    if isinstance(survey, BagSurvey):
        found = draft_bag(survey, model)
        recorded_as = survey.custom.get("wam.robot", "")
        source = f"{survey.path} ({survey.form}, {survey.duration:.1f} s, {survey.messages} messages)"
        own = recorded_as
    else:
        found = draft_dataset(survey, model)
        recorded_as = ""
        source = (
            f"{survey.path} (LeRobot {survey.version}, {len(survey.episodes)} episodes, {survey.rows} rows at "
            f"{survey.fps:g} Hz)"
        )
        own = survey.robot_type
    names = [group.prefix + joint.name for group in found.groups for joint in group.joints]
    unknown = [name for name in names if name not in model]
    remarks = list(found.remarks)
    if urdf is not None and unknown:
        remarks.append(f"{urdf.name} has no joint {', '.join(unknown[:8])}" + " ..." * (len(unknown) > 8))
    return RobotDraft(
        title=title or (f"{own} (recorded)" if own else f"Robot of {survey.path.resolve().name}"),
        source=source,
        groups=found.groups,
        cameras=found.cameras,
        commands=found.commands,
        recorded_as=legal(recorded_as, otherwise="robot") if recorded_as else "",
        urdf=urdf,
        urdf_fits=urdf is not None and not unknown,
        remarks=tuple(remarks),
    )


def draft_from_urdf(urdf: Path, *, title: str = "") -> RobotDraft:
    """Return a draft of a robot that only its URDF is known of; its topics are left open.

    Raises:
        ConfigError: the URDF is faulty, or has no joint that moves.
        MissingDependency: xacro is not installed.
    """
    joints = [joint for joint in _model(urdf).values() if joint.moves and not joint.mimics]
    if not joints:
        raise ConfigError(f"{urdf} has no joint that moves", where=str(urdf))
    group = DraftGroup("body", "", math.nan, math.nan, tuple(urdf_joint(joint) for joint in joints))
    return RobotDraft(
        title=title or f"Robot of {urdf.name}",
        source=str(urdf),
        groups=(group,),
        cameras=(),
        commands=(),
        urdf=urdf,
        urdf_fits=True,
    )


def _model(urdf: Path | None) -> Mapping[str, UrdfJoint]:
    return {} if urdf is None else urdf_joints(expand_xacro(urdf, {}))
