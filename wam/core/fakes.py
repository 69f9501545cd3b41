# SPDX-License-Identifier: Apache-2.0
"""Fakes of the interfaces in `wam.core.policy`: a numpy policy for tests, demos and benchmarks.

The fake planner exports layerwise K/V of the right shape whose values come from its image; the fake executor reads
them and moves every joint on a slow sine about the measured state, so a robot driven by it moves visibly and safely.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_S
from wam.core.context import ContextHandle, ContextHeader, PlannerContext, Transport
from wam.core.contract import CameraContract, PolicyContract
from wam.core.errors import ContextReleased, PolicyFault, StaleContext
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.core.policy import Features, RoutedContext

Payload = Mapping[str, npt.NDArray[Any]]

FAKE_HASH = "f" * 64


def fake_contract(
    *,
    joint_names: tuple[str, ...],
    cameras: tuple[CameraContract, ...],
    control_period_ns: int = NS_PER_S // 30,
    chunk_rows: int = 16,
    horizon_rows: int = 64,
    contract_hash: str = FAKE_HASH,
) -> PolicyContract:
    """Return the contract of a fake policy that sees `cameras` and moves `joint_names`."""
    return PolicyContract(
        kind="fake",
        contract_hash=contract_hash,
        cameras=cameras,
        state_joints=joint_names,
        action_joints=joint_names,
        control_period_ns=control_period_ns,
        chunk_rows=chunk_rows,
        horizon_rows=horizon_rows,
        instruction="wave slowly",
    )


@dataclass(frozen=True, slots=True)
class FakeShape:
    """Sizes of the fake's K/V.

    Attributes:
        layers: layers L.
        tokens: tokens S.
        width: key and value width D.
    """

    layers: int = 3
    tokens: int = 6
    width: int = 64


class FakePlanner:
    """Planner whose K/V hold the mean colour of the image; it counts its calls.

    Args:
        contract: the contract that it reports.
        shape: sizes of the K/V [L, 1, S, D].
    """

    def __init__(self, contract: PolicyContract, *, shape: FakeShape | None = None) -> None:
        self._contract = contract
        self._shape = shape or FakeShape()
        self.version = 0
        self.resets = 0

    def plan(self, observation: Observation, *, instruction: Instruction) -> PlannerContext[Payload]:
        """Return a context for the newest image of the first camera, or of the joint states where there is none."""
        frame = next((observation.frames[name] for name in self._contract.camera_names), None)
        self.version += 1
        shape = (self._shape.layers, 1, self._shape.tokens, self._shape.width)
        brightness = 0.0 if frame is None else float(frame.rgb.mean()) / 255.0
        key = np.full(shape, brightness, dtype=np.float32)
        header = ContextHeader(
            stamp_ns=observation.stamp_ns if frame is None else frame.stamp_ns,
            generation=instruction.generation,
            version=self.version,
            contract_hash=self._contract.contract_hash,
            instruction=instruction.text,
            horizon_rows=self._contract.horizon_rows,
            control_period_ns=self._contract.control_period_ns,
        )
        return PlannerContext(header, {"k": key, "v": -key})

    def reset(self) -> None:
        """Restart the count of versions."""
        self.version = 0
        self.resets += 1


class FakeExecutor:
    """Executor that waves every joint about a centre on a sine of the time since its first chunk, at the robot's pace.

    Args:
        contract: the contract that it reports.
        amplitude: largest distance from the centre [rad or m], one for all joints or float64 [N].
        frequency: of the wave [Hz].
        centre: float64 [N] about which to wave; None takes the first measured state.
        approach: time constant with which a centre that is given is approached [s]; 0 waves about it at once.
    """

    def __init__(
        self,
        contract: PolicyContract,
        *,
        amplitude: float | npt.NDArray[np.float64] = 0.2,
        frequency: float = 0.2,
        centre: npt.NDArray[np.float64] | None = None,
        approach: float = 0.0,
    ) -> None:
        self._contract = contract
        self._approach = approach
        self._distance: npt.NDArray[np.float64] | None = None
        self._amplitude = amplitude
        self._omega = 2.0 * math.pi * frequency
        self._centre = centre
        self._start_ns: int | None = None
        self._share = 1.0
        self._last_ns = 0

    def pace(self, share: float) -> None:
        """Let the time of the wave pass at this share, 0..1, from the last chunk on."""
        self._share = share

    def route(self, observation: Observation, *, context: PlannerContext[Payload]) -> RoutedContext[Payload]:
        """Return the context's K/V shifted by the newest image's mean colour."""
        header = context.header
        offset = header.phase_offset_rows(observation.stamp_ns)
        if not 0 <= offset < header.horizon_rows:
            raise StaleContext(
                "planner context cannot serve this observation",
                value=f"phase offset {offset} rows",
                allowed=f"0 .. {header.horizon_rows - 1} rows",
                where="the planner's rate, or the policy's horizon",
            )
        key = context.payload["k"]
        if not np.all(np.isfinite(key)):
            raise PolicyFault("planner context holds non-finite keys", where="the policy bundle")
        return RoutedContext(header, observation.stamp_ns, {"k": key + np.float32(0.0)})

    def act(self, routed: RoutedContext[Payload], *, proprio: RobotState) -> ActionChunk:
        """Return `chunk_rows` rows of the wave from the routed observation's stamp on."""
        contract, header = self._contract, routed.header
        state = proprio.select(contract.action_joints)
        if self._centre is None:
            self._centre = np.array(state.positions)
        if self._start_ns is None:
            self._start_ns = self._last_ns = routed.stamp_ns
            self._distance = np.array(state.positions) - self._centre
        # Where the robot is slower than the rows, the wave begins later by what it has not done.
        self._start_ns += round((1.0 - self._share) * (routed.stamp_ns - self._last_ns))
        self._last_ns = routed.stamp_ns
        t = routed.stamp_ns - self._start_ns + np.arange(contract.chunk_rows) * contract.control_period_ns
        wave = np.sin(self._omega * t / NS_PER_S)
        return ActionChunk(
            stamp_ns=routed.stamp_ns,
            generation=header.generation,
            sequence=0,
            contract_hash=contract.contract_hash,
            context_version=header.version,
            context_age_ns=routed.stamp_ns - header.stamp_ns,
            phase_offset_rows=header.phase_offset_rows(routed.stamp_ns),
            row_period_ns=contract.control_period_ns,
            joint_names=contract.action_joints,
            rows=self._centre
            + self._rest_of_way(t)
            + wave[:, None] * np.broadcast_to(self._amplitude, (len(contract.action_joints),)),
        )

    def _rest_of_way(self, t: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return how far from the centre the middle of the wave is at times `t` [T] since the start, float64 [T, N]."""
        if self._distance is None or self._approach <= 0.0:
            return np.zeros((len(t), 1))
        rest: npt.NDArray[np.float64] = np.exp(-t / (self._approach * NS_PER_S))[:, None] * self._distance
        return rest


@dataclass(frozen=True, slots=True)
class FakeImagination:
    """Predicts that every camera will see what it sees now.

    Attributes:
        stamp_ns: acquisition time of the images of now [ns].
        target_stamp_ns: time for which the images are expected [ns].
        frames: of now.
        decoded: cameras whose image was requested, in order.
    """

    stamp_ns: int
    target_stamp_ns: int
    frames: Mapping[str, CameraFrame]
    decoded: list[str] = field(default_factory=list)

    def features(self) -> Features:
        """Return the pixels of now, camera -> float32 [H, W, 3] in 0..1."""
        return {name: (frame.rgb / 255).astype(np.float32) for name, frame in self.frames.items()}

    def frame(self, camera: str) -> CameraFrame | None:
        """Return the image of now with the stamp of then."""
        self.decoded.append(camera)
        now = self.frames.get(camera)
        return None if now is None else CameraFrame(camera, self.target_stamp_ns, now.rgb)


class ImaginingExecutor(FakeExecutor):
    """The same with an expectation beside each chunk."""

    imagination: FakeImagination | None = None

    def route(self, observation: Observation, *, context: PlannerContext[Payload]) -> RoutedContext[Payload]:
        """Remember the images."""
        self._frames = observation.frames
        return super().route(observation, context=context)

    def act(self, routed: RoutedContext[Payload], *, proprio: RobotState) -> ActionChunk:
        """Return the wave; expect the images of now at its end."""
        chunk = super().act(routed, proprio=proprio)
        end_ns = chunk.stamp_ns + len(chunk.rows) * chunk.row_period_ns
        self.imagination = FakeImagination(chunk.stamp_ns, end_ns, self._frames)
        return chunk


class FakeChannel:
    """Both ends of a context transport in one object: a dictionary of what was published.

    It refuses what a real transport refuses, so that a cycle's handling of it can be tested: call `retire` to make
    every lease raise as after a restart of the planner.
    """

    def __init__(self) -> None:
        self._contexts: dict[str, PlannerContext[Payload]] = {}
        self.released: list[str] = []
        self.opened: list[str] = []

    @property
    def transport(self) -> Transport:
        """It reports the in-process transport."""
        return Transport.IN_PROCESS

    def publish(self, context: PlannerContext[Payload]) -> ContextHandle:
        """Keep `context` under a name of its generation and version."""
        name = f"fake.{context.header.generation}.{context.header.version}"
        self._contexts[name] = context
        total = sum(array.nbytes for array in context.payload.values())
        return ContextHandle(Transport.IN_PROCESS, name, (), total)

    def open(self, header: ContextHeader, handle: ContextHandle) -> FakeLease:
        """Lease the context called `handle.name`.

        Raises:
            ContextReleased: it was never published here, or was retired.
        """
        if handle.name not in self._contexts:
            raise ContextReleased("planner context is gone", value=handle.name)
        self.opened.append(handle.name)
        return FakeLease(self, handle.name)

    def get(self, name: str) -> PlannerContext[Payload]:
        """Return the context called `name`.

        Raises:
            ContextReleased: it was retired.
        """
        if name not in self._contexts:
            raise ContextReleased("planner context is gone", value=name)
        return self._contexts[name]

    def leases(self) -> int:
        """Return how many leases are out."""
        return len(self.opened) - len(self.released)

    def retire(self) -> None:
        """Forget every context, as a restarted planner does."""
        self._contexts.clear()

    def close(self) -> None:
        """Forget every context."""
        self.retire()


class FakeLease:
    """Lease of a `FakeChannel`.

    Args:
        channel: where the context is kept.
        name: of the context.
    """

    def __init__(self, channel: FakeChannel, name: str) -> None:
        self._channel = channel
        self._name = name
        self._held = True

    def get(self) -> PlannerContext[Payload]:
        """Return the context.

        Raises:
            ContextReleased: the lease was released, or the context was retired.
        """
        if not self._held:
            raise ContextReleased("planner context was read after its lease was released", value=self._name)
        return self._channel.get(self._name)

    def release(self) -> None:
        """Release the lease; safe to call twice."""
        if self._held:
            self._held = False
            self._channel.released.append(self._name)
