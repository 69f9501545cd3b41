# SPDX-License-Identifier: Apache-2.0
"""Whether a planner context can serve an observation, by contract and stamps: the same for every policy."""

from __future__ import annotations

from wam.core.context import ContextHeader
from wam.core.contract import PolicyContract, require_same_contract
from wam.core.errors import StaleContext, StaleObservation


def routable_offset(contract: PolicyContract, header: ContextHeader, *, stamp_ns: int) -> int:
    """Return the control rows between a context's image and an observation.

    Args:
        contract: of the executor's policy.
        header: of the context.
        stamp_ns: acquisition time of the observation [ns].

    Raises:
        ContractMismatch: the context comes from another policy.
        StaleObservation: the observation is older than the context's image.
        StaleContext: the observation lies beyond the horizon of the context.
    """
    require_same_contract(
        mine=contract.contract_hash,
        theirs=header.contract_hash,
        my_side="executor",
        their_side="planner context",
    )
    offset = header.phase_offset_rows(stamp_ns)
    if offset < 0:
        raise StaleObservation(
            f"the observation is {-offset} rows older than the image of context version {header.version}",
            allowed="an observation at or after the context's image",
            where="the stamps of the cameras",
        )
    if offset >= contract.horizon_rows:
        raise StaleContext(
            f"context version {header.version} is {offset} rows old",
            allowed=f"less than {contract.horizon_rows} rows, the policy's horizon",
            where="the planner's rate, or the network between planner and executor",
        )
    return offset
