# SPDX-License-Identifier: Apache-2.0
"""What an operator does about the state of the safety node. No ROS."""

from __future__ import annotations

import enum

from wam.core.ladder import NOT_ARMED
from wam.core.verdict import Ladder


class OperatorAct(enum.Enum):
    """What an operator does."""

    CLEAR = "clear"  # a latched STOP
    RESUME = "resume"  # lets the arm go
    PRESS = (
        "press"  # presses the emergency stop and releases it: the node wants to hear it after an activation
    )


def operator_act(rung: Ladder, code: str) -> OperatorAct | None:
    """Return what the operator does at `rung`, whose cause has `code`; None: waits."""
    if rung is Ladder.STOP:
        return OperatorAct.CLEAR
    return {"awaiting_resume": OperatorAct.RESUME, NOT_ARMED: OperatorAct.PRESS}.get(code)
