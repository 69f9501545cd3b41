# SPDX-License-Identifier: Apache-2.0
"""Load a policy on a backend and tell what the gate finds of every stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wam.core.errors import PolicyFault
from wam.core.policy import StageBackend
from wam.models.backends.backend import AUTO
from wam.models.backends.gate import StageVerdict
from wam.models.backends.plan import BackendPlan
from wam.models.robot_layout import RobotLayout
from wam.policies.bundles import load_policy, open_policy, plan_for


@dataclass(frozen=True, slots=True)
class BackendCheck:
    """What the gate finds of a policy on a backend.

    Attributes:
        policy: as it was named.
        backend: names of the backends that the stages may run on, best first.
        device: where.
        verdicts: one for every stage and set of shapes, in the order in which they were judged.
        stages: what runs every stage, and why.
        fault: why loading ended; "" where every stage passed.
    """

    policy: str
    backend: str
    device: str
    verdicts: tuple[StageVerdict, ...]
    stages: tuple[StageBackend, ...] = ()
    fault: str = ""

    @property
    def passed(self) -> bool:
        """Whether loading succeeded and the gate refused nothing."""
        return not self.fault and all(verdict.passed for verdict in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """Return the check as plain values."""
        return {
            "policy": self.policy,
            "backend": self.backend,
            "device": self.device,
            "passed": self.passed,
            "fault": self.fault,
            "runs_on": {one.stage: {"backend": one.backend, "reason": one.reason} for one in self.stages},
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
    backend: str | BackendPlan = AUTO,
    robot: RobotLayout | None = None,
) -> BackendCheck:
    """Load both halves of a policy, whose warm-up meets every shape, and return what the gate finds.

    Args:
        policy: as `load_policy`.
        device: where the stages run.
        backend: as `load_policy`.
        robot: as `load_policy`.

    Raises:
        BundleError: as `load_policy`; also where the policy has no such backend.
    """
    plan = plan_for(open_policy(policy, robot=robot), backend, device=device)
    fault = ""
    try:
        load_policy(policy, device=device, backend=plan, robot=robot)
    except PolicyFault as error:
        fault = str(error)
    return BackendCheck(str(policy), plan.name, str(device), plan.verdicts, plan.stages, fault)
