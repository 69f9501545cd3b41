# SPDX-License-Identifier: Apache-2.0
"""Draft of the robot of a LeRobot data set; its topics are free: `wam convert lerobot` writes those it names."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from wam.core.errors import RecordingError
from wam.data.draft.from_bag import max_age
from wam.data.draft.joints import Observed, draft_joints
from wam.data.draft.names import distinct, legal
from wam.data.draft.values import DraftCamera, DraftGroup
from wam.data.lerobot.format import ACTION, IMAGES, STATE
from wam.data.survey.values import DatasetSurvey, FeatureSurvey
from wam.robots.urdf import UrdfJoint

ACTIONS = (ACTION, "actions")
"""Names of the table of commands."""


@dataclass(frozen=True, slots=True)
class DatasetDraft:
    """What a data set tells.

    Attributes:
        groups: one.
        cameras: cameras.
        commands: shell commands that convert an episode and replay it; ROBOT stands for the file of the draft.
        remarks: what was left out and why.
    """

    groups: tuple[DraftGroup, ...]
    cameras: tuple[DraftCamera, ...]
    commands: tuple[str, ...]
    remarks: tuple[str, ...]


def draft_dataset(survey: DatasetSurvey, model: Mapping[str, UrdfJoint]) -> DatasetDraft:
    """Return what a data set tells of its robot.

    Args:
        survey: of the data set.
        model: joints of the URDF by name; empty without one.

    Raises:
        RecordingError: it has no table of states.
    """
    remarks: list[str] = []
    options: list[str] = []
    state = _state(survey)
    if state.name != STATE:
        options += ["--state-key", state.name]
    columns = _columns(survey, state)
    if all(one.name.isdigit() for one in state.columns):
        remarks.append(f"{state.name}: the data set names no columns; the names here are made up")
        options.append("--in-order")
    _action(survey, state, options, remarks)
    cameras = tuple(_cameras(survey, options, remarks))
    episodes = [episode.index for episode in survey.episodes if not episode.missing]
    first = episodes[0] if episodes else 0
    convert = ["wam", "convert", "lerobot", str(survey.path), "bag", "--robot", "ROBOT"]
    replay = "wam replay bag --robot ROBOT --policy fake --report out"
    period_s = 1.0 / survey.fps
    group = DraftGroup("body", "joint_states", survey.fps, max_age(period_s), draft_joints(columns, model))
    return DatasetDraft(
        (group,),
        cameras,
        (shlex.join([*convert, "--episode", str(first), *options]), replay),
        tuple(remarks),
    )


def _columns(survey: DatasetSurvey, state: FeatureSurvey) -> list[Observed]:
    """Return the joints; what was commanded counts, too: commands lead and go further."""
    commanded = {
        one.name: one for feature in survey.features if feature.name in ACTIONS for one in feature.columns
    }
    return [
        Observed(
            f"joint_{one.name}" if one.name.isdigit() else one.name,
            min(one.low, commanded.get(one.name, one).low),
            max(one.high, commanded.get(one.name, one).high),
            one.speed,
        )
        for one in state.columns
    ]


def _state(survey: DatasetSurvey) -> FeatureSurvey:
    """Return the table of measured positions: observation.state, or the one that is most likely it."""
    tables = [
        feature
        for feature in survey.features
        if len(feature.columns) > 1
        and feature.name not in ACTIONS
        and any(one.samples for one in feature.columns)
    ]
    for name in (STATE, "state"):
        for feature in tables:
            if feature.name == name:
                return feature
    if survey.problems and not any(feature.columns for feature in survey.features):
        raise RecordingError(f"data set {survey.path} cannot be read: {survey.problems[0]}")
    likely = [feature for feature in tables if "state" in feature.name or "qpos" in feature.name]
    if len(likely) != 1:
        raise RecordingError(
            f"data set {survey.path} has no feature {STATE}",
            value=[feature.name for feature in survey.features],
            allowed="a table of positions with a name of its own that holds `state`",
            where="meta/info.json: features",
        )
    return likely[0]


def _action(survey: DatasetSurvey, state: FeatureSurvey, options: list[str], remarks: list[str]) -> None:
    """Add what the conversion of the action needs."""
    action = next((one for one in survey.features if one.name in ACTIONS and one.columns), None)
    if action is None:
        remarks.append("the data set has no action: chunks are compared with the states measured later")
        return
    if action.name != ACTION:
        options += ["--action-key", action.name]
    lacking = {one.name for one in state.columns} - {one.name for one in action.columns}
    if lacking and "--in-order" not in options:
        remarks.append(
            f"{action.name} does not name {', '.join(sorted(lacking)[:8])}; --lenient leaves the action out, "
            "--action-name COLUMN=JOINT (once per column) takes it"
        )
        options.append("--lenient")
    elif "--in-order" in options and len(action.columns) != len(state.columns):
        remarks.append(f"{action.name} has {len(action.columns)} columns, {state.name} {len(state.columns)}")


def _cameras(survey: DatasetSurvey, options: list[str], remarks: list[str]) -> list[DraftCamera]:
    missing = {name for episode in survey.episodes for name in episode.missing}
    found = []
    pictures = [feature for feature in survey.features if feature.camera is not None]
    short = [feature.name.removeprefix(IMAGES) for feature in pictures]
    names = distinct(legal(one, otherwise="camera") for one in short)
    for feature, told, name in zip(pictures, short, names, strict=True):
        camera = feature.camera
        if camera is None:
            continue
        gone = [one for one in missing if f"/{feature.name}/" in f"/{one}"]
        problem = camera.problem or (f"{len(gone)} files are missing" if gone else "")
        if problem or not camera.height:
            remarks.append(f"{feature.name}: left out: {problem or 'no image could be read'}")
            continue
        if told != name:
            options += ["--camera", f"{told}={name}"]
        folder = name.replace(".", "_").replace("-", "_")
        found.append(
            DraftCamera(
                name=name,
                topic=f"{folder}/image_raw/compressed",
                compressed=True,
                encoding="jpeg",
                height=camera.height,
                width=camera.width,
                rate=survey.fps,
                max_age_s=max_age(1.0 / survey.fps),
                frame_id=f"{folder}_optical_frame",
            )
        )
    return found
