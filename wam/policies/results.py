# SPDX-License-Identifier: Apache-2.0
"""What planners and executors of every policy return: context headers and chunks, and the seed of a chunk."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.context import ContextHeader
from wam.core.contract import PolicyContract
from wam.core.observation import Instruction, RobotState
from wam.core.policy import RoutedContext


def context_header(
    contract: PolicyContract, *, stamp_ns: int, instruction: Instruction, version: int, started_ns: int
) -> ContextHeader:
    """Return the header of a new planner context.

    Args:
        contract: of the policy.
        stamp_ns: acquisition time of the newest image used [ns].
        instruction: that the context was made for.
        version: counts the contexts of a generation from 1.
        started_ns: `time.perf_counter_ns()` when planning began.
    """
    return ContextHeader(
        stamp_ns=stamp_ns,
        generation=instruction.generation,
        version=version,
        contract_hash=contract.contract_hash,
        instruction=instruction.text,
        horizon_rows=contract.horizon_rows,
        control_period_ns=contract.control_period_ns,
        plan_ns=time.perf_counter_ns() - started_ns,
    )


def action_chunk(
    contract: PolicyContract,
    routed: RoutedContext[Any],
    rows: npt.NDArray[np.float64],
    *,
    proprio: RobotState,
    offset_rows: int,
    started_ns: int,
) -> ActionChunk:
    """Return a chunk whose row 0 is due at the stamp of the routed context.

    Args:
        contract: of the policy.
        routed: the context that the chunk was made from.
        rows: [R, joints] in SI units, by the contract's action joints; relative to `proprio` where it says so.
        proprio: measured state at the observation.
        offset_rows: control rows between the context's image and the observation.
        started_ns: `time.perf_counter_ns()` when routing began.
    """
    header = routed.header
    if contract.relative_actions:
        rows = rows + proprio.select(contract.action_joints).positions
    return ActionChunk(
        stamp_ns=routed.stamp_ns,
        generation=header.generation,
        sequence=0,
        contract_hash=contract.contract_hash,
        context_version=header.version,
        context_age_ns=header.age_ns(routed.stamp_ns),
        phase_offset_rows=offset_rows,
        row_period_ns=contract.control_period_ns,
        joint_names=contract.action_joints,
        rows=rows,
        inference_ns=time.perf_counter_ns() - started_ns,
    )


def relative_rows(
    contract: PolicyContract, rows: npt.NDArray[np.float64], *, proprio: RobotState
) -> npt.NDArray[np.float64]:
    """Return rows of positions as the contract's policy predicts them: the inverse of what `action_chunk` does."""
    if contract.relative_actions:
        return rows - proprio.select(contract.action_joints).positions
    return rows


def chunk_seed(seed: int, *, header: ContextHeader, index: int) -> int:
    """Return the seed of a chunk's random numbers: the same arguments give the same seed on every machine.

    Args:
        seed: of the policy.
        header: of the planner context; its generation and version enter.
        index: tells the chunks of one context apart, e.g. the rows between the context's image and the observation.

    Returns:
        63 bits.
    """
    text = f"{seed}/{header.generation}/{header.version}/{index}"
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "little") >> 1
