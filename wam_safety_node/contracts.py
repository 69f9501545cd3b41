# SPDX-License-Identifier: Apache-2.0
"""What the safety node accepts on its topics, from its parameters and the robot file."""

from __future__ import annotations

from typing import Any

from wam.core.clock import seconds_to_ns
from wam.core.input_guard import MAX_AHEAD_NS, InputContract, InputReason, RefusedInput
from wam.robots.description import JointGroup, RobotDescription
from wam.ros.inputs import node_of_topic
from wam_safety_node.parameters import SafetyParameters

FRAME_BYTES = 16_384
"""Room for names and header of a message [bytes]."""

CHUNK_RATE_HZ = 100.0
CHUNK_RELEASE_S = 1.0
"""Silence of the executor after which another one is followed [s]: the lease of its liveliness."""

STATE_RATE_HZ = 1_000.0
STATE_RATE_FACTOR = 4.0
STATE_RELEASE_S = 0.5


def chunk_contract(node: Any, p: SafetyParameters, robot: RobotDescription) -> InputContract:
    """Return what is accepted as an action chunk: one executor at a time, of the size that the parameters allow."""
    if p.chunk_sender:
        sender = p.chunk_sender if p.chunk_sender.startswith("/") else f"{_folder(node)}/{p.chunk_sender}"
    else:
        sender = node_of_topic(node, p.chunk_topic)
    return InputContract(
        max_bytes=FRAME_BYTES + 8 * p.max_chunk_rows * len(robot.joint_names),
        max_rate=_rate(p, CHUNK_RATE_HZ),
        burst=50,
        max_ahead_ns=MAX_AHEAD_NS,
        sole=True,
        node=sender,
        strict=bool(p.chunk_sender),
        release_ns=seconds_to_ns(CHUNK_RELEASE_S),
        node_time=p.lock_step,
    )


def state_contract(p: SafetyParameters, group: JointGroup) -> InputContract:
    """Return what is accepted as a joint state of `group`: one driver of each joint, in time."""
    return InputContract(
        max_rate=_rate(p, max(STATE_RATE_HZ, STATE_RATE_FACTOR * group.state_rate)),
        max_wait_ns=0 if p.lock_step else group.state_max_age_ns,
        max_ahead_ns=MAX_AHEAD_NS,
        sole=True,
        parts=group.parts,
        release_ns=seconds_to_ns(STATE_RELEASE_S),
        node_time=p.lock_step,
    )


def driver_contract(p: SafetyParameters) -> InputContract:
    """Return what is accepted of what a driver tells beside joint states: a second process could set the arm's pace."""
    return InputContract(sole=True, release_ns=seconds_to_ns(STATE_RELEASE_S), node_time=p.lock_step)


def refusal_code(refused: RefusedInput, what: str) -> str:
    """Return the code of the event that reports a refused chunk or joint state (`what`)."""
    if refused.reason in (InputReason.MALFORMED, InputReason.INTERNAL):
        return f"malformed_{what}"
    return f"future_{what}" if refused.reason is InputReason.AHEAD else refused.reason.value


def _folder(node: Any) -> str:
    return str(node.get_namespace()).rstrip("/")


def _rate(p: SafetyParameters, rate: float) -> float:
    """Return the highest rate of messages [Hz]; in lock-step wall time means nothing, and nothing is limited."""
    return 0.0 if p.lock_step else rate
