# SPDX-License-Identifier: Apache-2.0
"""Load a policy on a backend and tell what the gate finds of every stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wam.core.errors import PolicyFault
from wam.models.backends.backend import AUTO, Backend, Eager
from wam.models.backends.choice import choose_backend
from wam.models.backends.gate import StageVerdict
from wam.models.robot_layout import RobotLayout
from wam.policies.bundles import load_policy, open_policy
from wam.policies.registry import policy_kind


@dataclass(frozen=True, slots=True)
class BackendCheck:
    """What the gate finds of a policy on a backend.

    Attributes:
        policy: as it was named.
        backend: name of the backend that runs the stages.
        device: where.
        verdicts: one for every stage and set of shapes, in the order of capture.
        fault: why loading ended; "" where every stage passed.
    """

    policy: str
    backend: str
    device: str
    verdicts: tuple[StageVerdict, ...]
    fault: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the check as plain values."""
        return {
            "policy": self.policy,
            "backend": self.backend,
            "device": self.device,
            "passed": not self.fault,
            "fault": self.fault,
            "stages": [
                {
                    "stage": verdict.stage,
                    "passed": verdict.passed,
                    "comparisons": len(verdict.comparisons),
                    "difference": verdict.worst.difference,
                    "allowed": verdict.worst.allowed,
                    "case": verdict.worst.case,
                    "not_judged_alone": list(verdict.unseen),
                }
                for verdict in self.verdicts
            ],
        }


def check_backend(
    policy: str | Path,
    *,
    device: torch.device | str,
    backend: str | Backend = AUTO,
    robot: RobotLayout | None = None,
) -> BackendCheck:
    """Load both halves of a policy, whose warm-up meets every shape, and return what the gate finds.

    Args:
        policy: as `load_policy`.
        device: where the stages run.
        backend: name of a backend, or one that is ready.
        robot: as `load_policy`.

    Raises:
        BundleError: as `load_policy`; also where the policy has no such backend.
    """
    module = policy_kind(open_policy(policy, robot=robot).manifest.kind).load_policy_module()
    chosen = choose_backend(backend, device=device) if isinstance(backend, str) else backend
    if chosen.name not in module.BACKENDS and backend == AUTO:
        chosen = Eager()
    fault = ""
    try:
        # A backend that was asked for by name and that this kind does not have is refused there.
        load_policy(
            policy, device=device, backend=chosen if chosen.name in module.BACKENDS else backend, robot=robot
        )
    except PolicyFault as error:
        fault = str(error)
    return BackendCheck(str(policy), chosen.name, str(device), chosen.verdicts, fault)
