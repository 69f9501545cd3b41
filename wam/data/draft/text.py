# SPDX-License-Identifier: Apache-2.0
"""The YAML of a draft: what was observed, what was guessed, what nothing tells, each said where it stands."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

import yaml

from wam.data.draft.values import DraftCamera, DraftGroup, DraftJoint, DraftLimit, LimitOrigin, RobotDraft
from wam.robots.description import JointKind
from wam.robots.joint_file import OBSERVED
from wam.robots.yaml_reader import UNFILLED

WIDTH = 118
SAFETY = ("chunk_timeout", "max_jump", "tracking_error", "lead", "blend")
"""Budgets that a file by which a robot moves must have."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./ -]*[A-Za-z0-9_]|[A-Za-z_]")


def draft_text(draft: RobotDraft, *, out: Path) -> str:
    """Return the content of a robot file.

    Args:
        draft: the robot.
        out: where the file is going to be, for the commands in its header.
    """
    lines = [*_header(draft, out), f"title: {quoted(draft.title)}"]
    lines += ["replay_only: true  # no robot is moved by this file; remove the line when it is complete"]
    if draft.recorded_as:
        lines.append(f"recorded_as: {quoted(draft.recorded_as)}  # what the recording calls the robot")
    if draft.urdf is not None:
        model = f"model: {{urdf: {quoted(str(draft.urdf.resolve()))}}}"
        lines += ["", model if draft.urdf_fits else f"# {model}  # not yet: joints without one of the model"]
    lines += ["", "groups:"]
    for group in draft.groups:
        lines += _group(group)
    lines += _cameras(draft.cameras)
    lines += [
        "",
        "# No recording tells these; they are needed to move a robot (docs/how-to/add-a-robot.md):",
        f"# safety: {{{', '.join(f'{key}: {UNFILLED}' for key in SAFETY)}}}",
    ]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Return a text as YAML writes it: plain where that is read back as the same text."""
    if _PLAIN.fullmatch(text) and text != UNFILLED and yaml.safe_load(text) == text:
        return text
    return json.dumps(text, ensure_ascii=False)


def _header(draft: RobotDraft, out: Path) -> list[str]:
    lines = [f"# Draft of a robot file, made by `wam init robot` from {draft.source}."]
    if draft.commands:
        lines.append("# It replays that recording as it is:")
        lines += [f"#   {command.replace('ROBOT', str(out))}" for command in draft.commands]
    else:
        lines += _comment(f"Enter the topics where {UNFILLED} stands; it is then ready for recordings.")
    lines += ["#"]
    if any(_is_observed(joint) for group in draft.groups for joint in group.joints):
        lines += _comment(
            f"observed: numbers as {{{OBSERVED}: NUMBER}} are what the recording shows, a little wider. They are not "
            "the limits of the robot: figures that need limits are left out of a report, and the safety chain judges "
            "nothing. Enter the limits of the vendor or of a URDF."
        )
    lines += _comment("guessed: kinds of joints, names of groups and cameras, units in comments.")
    lines += _comment(
        "not told by any recording: acceleration, jerk, safety budgets, driver, emergency stops, payload. To move a "
        "robot, enter them, remove `replay_only`, and ask `wam info --robot` what is missing."
    )
    for remark in draft.remarks:
        lines += _comment(f"note: {remark}")
    return lines


def _comment(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _group(group: DraftGroup) -> list[str]:
    lines = [line for remark in group.remarks for line in _comment(remark, "  ")]
    lines.append(f"  - name: {quoted(group.name)}")
    if group.prefix:
        lines.append(f"    prefix: {quoted(group.prefix)}")
    lines.append(
        f"    state: {{topic: {quoted(group.topic) if group.topic else UNFILLED}, rate: {_number(group.rate)}, "
        f"max_age: {_milliseconds(group.max_age_s)}}}"
    )
    if group.command is not None:
        one = group.command
        lines.append(
            f"    command: {{kind: {one.kind.value}, topic: {quoted(one.topic)}, rate: {_number(one.rate)}}}"
        )
    if any(_is_observed(joint) for joint in group.joints):
        lines.append(f"    # {UNFILLED}: observed in the recording, not the limits of the robot")
    lines.append("    joints:")
    for joint in group.joints:
        lines += [line for remark in joint.remarks for line in _comment(remark, "      ")]
        lines.append(f"      - {_joint(joint)}")
    return lines


def _joint(joint: DraftJoint) -> str:
    fields = {"driver_name": quoted(joint.driver_name)}
    if joint.name != joint.driver_name:
        fields["name"] = quoted(joint.name)
    fields |= {
        "kind": joint.kind.value,
        "lower": _limit(joint.lower),
        "upper": _limit(joint.upper),
        "velocity": _limit(joint.velocity),
        "acceleration": UNFILLED,
        "jerk": UNFILLED,
    }
    unit = "N" if joint.kind is JointKind.PRISMATIC else "N m"
    effort = f"  # URDF: effort {joint.effort:g} {unit}" if math.isfinite(joint.effort) else ""
    return "{" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}" + effort


def _limit(limit: DraftLimit) -> str:
    if limit.origin is LimitOrigin.UNKNOWN:
        return UNFILLED
    return f"{{{OBSERVED}: {limit.value:g}}}" if limit.origin is LimitOrigin.OBSERVED else f"{limit.value:g}"


def _is_observed(joint: DraftJoint) -> bool:
    return LimitOrigin.OBSERVED in (joint.lower.origin, joint.upper.origin, joint.velocity.origin)


def _cameras(cameras: Iterable[DraftCamera]) -> list[str]:
    lines: list[str] = []
    for camera in cameras:
        lines += [line for remark in camera.remarks for line in _comment(remark, "  ")]
        lines.append(
            f"  - {{name: {quoted(camera.name)}, topic: {quoted(camera.topic)}, transport: "
            f"{'compressed' if camera.compressed else 'raw'}, encoding: {camera.encoding}, height: {camera.height}, "
            f"width: {camera.width}, rate: {_number(camera.rate)}, max_age: {_milliseconds(camera.max_age_s)}, "
            f"frame_id: {quoted(camera.frame_id)}}}"
        )
    return ["", "cameras:", *lines] if lines else ["", "# cameras: none was recorded"]


def _number(value: float) -> str:
    return UNFILLED if math.isnan(value) else f"{value:g}"


def _milliseconds(seconds: float) -> str:
    return UNFILLED if math.isnan(seconds) else f"{{value: {seconds * 1e3:g}, unit: ms}}"
