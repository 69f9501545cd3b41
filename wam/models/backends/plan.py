# SPDX-License-Identifier: Apache-2.0
"""Which backend runs which stage of a policy: resolved once, while the policy is loaded, and told afterwards.

A choice that was left to the suite ("auto") falls back, stage by stage, down a ladder that ends with the eager stage;
why is part of the report. A backend that was asked for by name is used or refused, never replaced.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wam.core.errors import BundleError, PolicyFault
from wam.core.policy import StageBackend
from wam.models.backends.backend import EAGER_NAME, Backend, Eager, StageUnavailable
from wam.models.backends.bound import BoundStage
from wam.models.backends.gate import StageVerdict
from wam.models.backends.quarantine import Quarantine
from wam.models.backends.stage import StageSpec
from wam.runtime.policy import OR_AUTO


@dataclass(frozen=True, slots=True)
class OrAuto:
    """A backend that was asked for where it can, and the ladder below it where it cannot.

    Attributes:
        backend: tried first. As everything on the ladder, it only loads what is there.
    """

    backend: Backend

    @property
    def name(self) -> str:
        """As a user writes it."""
        return self.backend.name + OR_AUTO


Asked = Backend | OrAuto | None
"""What was asked for by name; None takes the ladder."""


class BackendPlan:
    """Prepares the stages of one policy.

    Args:
        ladder: backends of "auto", best first; the eager stage stands below the last one.
        named: stage -> what was asked for.
        whole: what was asked for, for every other stage.
        quarantine: of what failed in a run, for backends that keep nothing on disk themselves.
    """

    def __init__(
        self,
        ladder: Sequence[Backend] = (),
        *,
        named: Mapping[str, Asked] | None = None,
        whole: Asked = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        self._quarantine = quarantine or Quarantine()
        self._ladder, self._named, self._whole = tuple(ladder), dict(named or {}), whole
        self._met: set[str] = set()
        self._stages: list[StageBackend] = []
        self._bound: list[BoundStage] = []

    @staticmethod
    def of(backend: Backend) -> BackendPlan:
        """Return a plan that runs every stage on one backend."""
        return BackendPlan(whole=backend)

    @property
    def name(self) -> str:
        """Names of the backends that the plan may use, for logs and as a key."""
        choices: tuple[Backend | OrAuto, ...] = (*self._ladder, Eager())
        if self._whole is not None:
            choices = (self._whole,)
        named = tuple(f"{stage}: {one.name if one else 'auto'}" for stage, one in sorted(self._named.items()))
        return ", ".join((*(one.name for one in choices), *named))

    @property
    def stages(self) -> tuple[StageBackend, ...]:
        """What runs every stage that has been prepared, and why."""
        return tuple(self._stages)

    @property
    def verdicts(self) -> tuple[StageVerdict, ...]:
        """What the gate has found so far, of every stage and set of shapes; also of backends that were refused."""
        return tuple(verdict for stage in self._bound for verdict in stage.verdicts)

    def prepare(self, stage: StageSpec) -> Callable[..., Any]:
        """Return what runs the stage: same arguments, same results, never an alias of an argument.

        Raises:
            BundleError: a backend that was asked for by name cannot run it; the text names cause and remedy.
            PolicyFault: such a backend does not compute what the eager stage does.
        """
        asked = self._named.get(stage.name, self._whole)
        self._met.add(stage.name)
        ladder = self._ladder
        if isinstance(asked, OrAuto):
            ladder = (asked.backend, *(one for one in ladder if one is not asked.backend))
        elif asked is not None:
            return self._on(stage, asked)
        reasons: list[str] = []
        for backend in ladder:
            try:
                return self._bind(stage, backend, note="; ".join(reasons))
            except (StageUnavailable, PolicyFault) as error:
                reasons.append(f"not {backend.name}: {error}")
        self._stages.append(StageBackend(stage.name, EAGER_NAME, "; ".join(reasons)))
        return stage.module

    def declare(self, stage: str, backend: str, reason: str) -> None:
        """Report work that no backend may take over, so that reports name all of a policy's stages.

        Args:
            stage: its name.
            backend: what runs it: "eager", or "host" where it is no work on tensors.
            reason: why it is left there.
        """
        self._stages.append(StageBackend(stage, backend, reason))

    def adopt(self, stage: StageBackend) -> None:
        """Take over a stage that another plan of the same name has prepared, and that is shared with it."""
        self._met.add(stage.stage)
        self._stages.append(stage)

    def require_all_met(self) -> None:
        """Refuse a choice for a stage that the policy does not have.

        Raises:
            BundleError: the text names the stages that it has.
        """
        if strange := sorted(set(self._named) - self._met):
            raise BundleError(
                "backend: the policy has no such stage",
                value=", ".join(strange),
                allowed=", ".join(sorted(self._met)) or "none: its stages run as they are written",
                where="the parameter `backend`",
            )

    def _on(self, stage: StageSpec, backend: Backend) -> Callable[..., Any]:
        if isinstance(backend, Eager):
            self._stages.append(StageBackend(stage.name, backend.name, ""))
            return stage.module
        if reason := backend.probe():
            raise self._refusal(stage, backend, reason)
        try:
            try:
                return self._bind(stage, backend, note="")
            except StageUnavailable:
                backend.build(stage)
                return self._bind(stage, backend, note="")
        except StageUnavailable as error:
            raise self._refusal(stage, backend, str(error)) from error

    def _bind(self, stage: StageSpec, backend: Backend, *, note: str) -> BoundStage:
        if reason := backend.probe() or self._quarantine.reason(stage.name, backend.name):
            raise StageUnavailable(reason)
        bound = BoundStage(stage, backend, failed=functools.partial(self._failed, stage.name, backend.name))
        try:
            bound.meet_examples()
        finally:
            self._bound.append(bound)
        self._stages.append(StageBackend(stage.name, backend.name, note))
        return bound

    def _failed(self, stage: str, backend: str, why: str, kept: bool) -> None:
        if not kept:
            self._quarantine.add(stage, backend, why)
        told = StageBackend(stage, EAGER_NAME, f"{backend} failed while it ran: {why}")
        self._stages = [told if (one.stage, one.backend) == (stage, backend) else one for one in self._stages]

    def _refusal(self, stage: StageSpec, backend: Backend, reason: str) -> BundleError:
        return BundleError(
            f"stage {stage.name} cannot run on backend {backend.name}: {reason}",
            allowed="auto falls back to the eager stage",
            where="the parameter `backend`",
        )


def eager_plan() -> BackendPlan:
    """Return a plan that runs every stage as it is written."""
    return BackendPlan.of(Eager())
