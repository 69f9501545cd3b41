# SPDX-License-Identifier: Apache-2.0
"""Drafts of robot files: what a recording, a data set or a URDF tells of a robot, and what it does not.

`draft_robot(survey, ...)` gives a `RobotDraft`, `draft_text(draft)` the YAML of it.
"""

from wam.data.draft.draft import draft_from_urdf, draft_robot
from wam.data.draft.text import draft_text
from wam.data.draft.values import RobotDraft

__all__ = ["RobotDraft", "draft_from_urdf", "draft_robot", "draft_text"]
