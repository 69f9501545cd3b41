# SPDX-License-Identifier: Apache-2.0
"""The interfaces of a policy: planner, executor, how both are loaded; which context can serve which observation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.context import ContextHandle, ContextHeader, PlannerContext, TensorSpec, Transport
from wam.core.contract import PolicyContract, require_same_contract
from wam.core.errors import StaleContext, StaleObservation
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RoutedContext(Generic[T]):
    """A planner context adapted to one observation; valid for one chunk.

    Attributes:
        header: header of the context it was made from.
        stamp_ns: acquisition time of the observation it was routed by [ns].
        payload: the edited tensors; only the policy reads it.
    """

    header: ContextHeader
    stamp_ns: int
    payload: T


class Planner(Protocol[T]):
    """The slow half. One worker thread calls it; it may block for as long as a prefill takes."""

    def plan(self, observation: Observation, *, instruction: Instruction) -> PlannerContext[T]:
        """Compute a context. `header.generation` is the instruction's; `version` counts from 1 in it.

        Raises:
            PolicyFault: a tensor is not finite; the caller publishes nothing.
        """
        ...

    def reset(self) -> None:
        """Forget all history (rolling memory, versions). Called before a new generation."""
        ...


class Executor(Protocol[T]):
    """The fast half. One worker thread calls `route` and then `act`; neither keeps the context."""

    def route(self, observation: Observation, *, context: PlannerContext[T]) -> RoutedContext[T]:
        """Adapt `context` to the newest image.

        Raises:
            StaleContext: the observation lies beyond the horizon of the context.
        """
        ...

    def act(self, routed: RoutedContext[T], *, proprio: RobotState) -> ActionChunk:
        """Denoise one chunk in SI units; `sequence` is 0 and is numbered by the caller.

        Raises:
            PolicyFault: a value is not finite; the caller publishes nothing.
            UndecodableChunk: the sample does not decode to an action; the caller publishes nothing and goes on.
        """
        ...


Features = Mapping[str, npt.NDArray[np.float32]]
"""What a policy perceives, by name, in the space of its predictions (embeddings, pixels in 0..1); any shape."""


class Imagination(Protocol):
    """What a policy with a world model expects to perceive later. Expensive parts are computed only on request."""

    @property
    def stamp_ns(self) -> int:
        """Acquisition time of the image that it was imagined from [ns]."""
        ...

    @property
    def target_stamp_ns(self) -> int:
        """The time imagined [ns]."""
        ...

    def features(self) -> Features:
        """Return it as `Perceiving.perceive` gives an observation of that time. Worker thread."""
        ...

    def frame(self, camera: str) -> CameraFrame | None:
        """Return the image expected of `camera`, stamped with the time imagined; None where the policy has none.

        Decoding it may take as long as a chunk: call it only if the image is used. Worker thread.
        """
        ...


@runtime_checkable
class Imagining(Protocol):
    """Optional part of an `Executor` whose policy predicts a future."""

    @property
    def imagination(self) -> Imagination | None:
        """What was imagined beside the last chunk; None before the first, and where nothing was."""
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """Optional part of a `Planner` whose network predicts a future that no chunk needs, so that it costs extra."""

    def foresee(self) -> Imagination | None:
        """Return the future of the last plan; None before the first, and where the bundle cannot show it.

        It is computed when its features or its frames are asked for, from what the planner saw then. Worker thread.
        """
        ...


@runtime_checkable
class Paced(Protocol):
    """Optional part of an `Executor` whose rows depend on the time that has passed, not on what it observes alone."""

    def pace(self, share: float) -> None:
        """Take the share of its own speed at which the robot moves from now on, 0..1: the rows' time passes as fast."""
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """What the robot is going to execute at the times of a chunk that is about to be made.

    Attributes:
        rows: positions by the contract's action joints at the stamp of the observation and every row period after it,
            float64 [R, N] [rad or m]; the last row that is known is repeated.
        fixed: rows that are executed before the new chunk can take over.
        covered: rows that are known.
    """

    rows: npt.NDArray[np.float64]
    fixed: int
    covered: int


@runtime_checkable
class Continuing(Protocol):
    """Optional part of an `Executor` whose chunks can continue the one before (real-time chunking)."""

    def continue_from(self, committed: Committed | None) -> None:
        """Take what the next chunk has to continue; None where there is no earlier chunk of this generation."""
        ...


@runtime_checkable
class Perceiving(Protocol):
    """Optional part of a `Planner` whose policy predicts a future, so that the prediction can be evaluated."""

    def perceive(self, observation: Observation) -> Features:
        """Return the features of an observation, of the names and shapes of `Imagination.features`.

        Raises:
            ImageError: a camera is missing.
        """
        ...


class TensorCodec(Protocol[T]):
    """Turns a payload into named bytes and back, so that transports need not know the policy."""

    def specs(self, payload: T) -> tuple[TensorSpec, ...]:
        """Return the table of the payload's tensors, offsets aligned to `ALIGNMENT`."""
        ...

    def write(self, payload: T, into: memoryview) -> None:
        """Copy every tensor to its offset in `into` (writable bytes of the payload's total size)."""
        ...

    def read(self, specs: tuple[TensorSpec, ...], data: memoryview) -> T:
        """Return a payload whose tensors are views of `data`; nothing is copied."""
        ...


class ContextLease(Protocol[T]):
    """The right to read one context. Ended by `release` or by leaving a `with` block."""

    def get(self) -> PlannerContext[T]:
        """Return the context.

        Raises:
            ContextReleased: the lease was released, or the planner that owned it has gone.
            ContextRecycled: the memory belongs to another context now.
        """
        ...

    def release(self) -> None:
        """Release the lease; safe to call twice."""
        ...


class ContextPublisher(Protocol[T]):
    """Planner's end of a context transport. Called from the planner's worker thread."""

    @property
    def transport(self) -> Transport:
        """How payloads travel."""
        ...

    def publish(self, context: PlannerContext[T]) -> ContextHandle:
        """Make `context` readable and return its handle; an older one is retired as slots run out."""
        ...

    def leases(self) -> int:
        """Return how many contexts readers hold at this moment."""
        ...

    def close(self) -> None:
        """Retire every context and free its memory; readers' leases raise from then on."""
        ...


class ContextReader(Protocol[T]):
    """Executor's end of a context transport. Called from the executor's worker thread."""

    def open(self, header: ContextHeader, handle: ContextHandle) -> ContextLease[T]:
        """Check `handle` (owner, size, name pattern) and lease the context it names.

        Raises:
            HandleRefused: the handle is malformed or owned by another process or user.
            ContextReleased: the context is gone.
            ContextRecycled: the memory named belongs to another context now.
        """
        ...

    def close(self) -> None:
        """Release every lease."""
        ...


@dataclass(frozen=True, slots=True)
class StageBackend:
    """What runs a stage of a policy's inference.

    Attributes:
        stage: its name.
        backend: name of the backend.
        reason: why it is not a better one; "" where it is the best, or was asked for by name.
    """

    stage: str
    backend: str
    reason: str

    def __str__(self) -> str:
        """Return the backend, with the reason in brackets."""
        return f"{self.backend} ({self.reason})" if self.reason else self.backend


_STAGE_KEY = "backend of "


def stages_to_values(stages: Iterable[StageBackend]) -> dict[str, str]:
    """Return what runs every stage as a node's diagnostics state it, e.g. "backend of denoise" -> "eager"."""
    return {f"{_STAGE_KEY}{one.stage}": str(one) for one in stages}


def backends_in_values(values: Mapping[str, str]) -> dict[str, str]:
    """Return stage -> what runs it, from a node's diagnostics."""
    return {key.removeprefix(_STAGE_KEY): text for key, text in values.items() if key.startswith(_STAGE_KEY)}


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """Both halves of a policy, loaded from one bundle.

    Attributes:
        contract: what it needs and gives.
        planner: the slow half, or None where only the executor was asked for.
        executor: the fast half, or None where only the planner was asked for.
        codec: turns the payload of its contexts into bytes and back.
        device: where it computes, e.g. "cpu" or "cuda:0".
        stages: what runs its stages; empty for a policy without any.
    """

    contract: PolicyContract
    planner: Planner[Any] | None
    executor: Executor[Any] | None
    codec: TensorCodec[Any]
    device: str = "cpu"
    stages: tuple[StageBackend, ...] = ()

    @property
    def backends(self) -> dict[str, str]:
        """Stage -> what runs it, as reports state it."""
        return {one.stage: str(one) for one in self.stages}


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
