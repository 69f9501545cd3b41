# SPDX-License-Identifier: Apache-2.0
"""AHA-WAM's executor: context, image and joint state in, chunk out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wam.core.chunk import ActionChunk
from wam.core.context import ContextHeader, PlannerContext
from wam.core.contract import PolicyContract
from wam.core.errors import PolicyFault
from wam.core.observation import Observation, RobotState
from wam.core.policy import Committed, RoutedContext, routable_offset
from wam.models.backends.backend import EAGER_NAME
from wam.models.backends.plan import BackendPlan, eager_plan
from wam.models.backends.stage import EulerLoop, PolicyPart, StageInputs, StageSpec
from wam.models.backends.turns import turns_of
from wam.models.finite import all_finite, require_finite, require_finite_layers
from wam.models.layers.dit_block import REGIONS
from wam.models.layers.flow import integrate, sigma_grid
from wam.models.layers.guidance import guided, prefix_weights
from wam.models.layers.rope import Rope, rope_1d
from wam.models.normalisation import Normaliser
from wam.policies.aha_wam import stages
from wam.policies.aha_wam.context import AhaContext, AhaRouted
from wam.policies.aha_wam.kernel_stages import DenoiseKernels
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.prefix import EAGER_REASON, denoise_after
from wam.policies.aha_wam.video_dit import LayerKv
from wam.policies.aha_wam.vision import VisualEncoder
from wam.policies.results import action_chunk, chunk_seed, relative_rows


def start_noise(*, seed: int, header: ContextHeader, chunk: int, rows: int, width: int) -> Tensor:
    """Draw the noise that a chunk starts from: the same arguments give the same numbers on every machine.

    Args:
        seed: of the policy.
        header: of the planner context; its generation and version enter.
        chunk: index of the chunk within the horizon.
        rows: rows of a chunk.
        width: values per row.

    Returns:
        float32 [1, rows, width], standard normal, drawn on the CPU.
    """
    generator = torch.Generator().manual_seed(chunk_seed(seed, header=header, index=chunk))
    return torch.randn(1, rows, width, generator=generator)


class _Inputs(NamedTuple):
    """What one chunk is denoised from, beside the routed K/V."""

    noise: Tensor
    plan: stages.DenoisingSchedule
    text: LayerKv
    rope: Rope


class _Examples:
    """Inputs of the executor's stages, with the shapes that every call has."""

    def __init__(self, model: AhaWam) -> None:
        self._config, self._device, self._dtype = model.config, model.device, model.dtype

    def _zeros(self, *sizes: int) -> Tensor:
        return torch.zeros(*sizes, device=self._device, dtype=self._dtype)

    def _kv(self, tokens: int) -> LayerKv:
        sizes = (self._config.action.layers, 1, tokens, self._config.action.inner)
        return LayerKv(self._zeros(*sizes), self._zeros(*sizes))

    def text(self) -> list[StageInputs]:
        return [StageInputs.of(self._zeros(1, self._config.context_len, self._config.text_dim))]

    def route(self) -> list[StageInputs]:
        c = self._config
        latent = self._zeros(1, c.latent_channels, 1, c.latent_rows, c.latent_columns)
        return [StageInputs.of(latent, self._kv(c.frame_tokens))]

    def proprio(self) -> list[StageInputs]:
        state = torch.zeros(1, self._config.state_dim, device=self._device)
        return [StageInputs.of(state, self._kv(self._config.context_len))]

    def denoise(self, modulations: Tensor, rope: Rope) -> list[StageInputs]:
        c = self._config
        noise = torch.zeros(1, c.chunk_rows, c.action_dim, device=self._device)
        return [
            StageInputs.of(noise, modulations, self._kv(c.frame_tokens), self._kv(c.context_len + 1), rope)
        ]


class AhaExecutor:
    """OVCR and action DiT. One worker thread calls it.

    Args:
        model: with its executor half.
        contract: of the bundle.
        vision: shared with the planner.
        state_norm: of the proprioception.
        action_norm: of the action rows.
        steps: integration steps N (10; 4, 2 or 1 for distilled weights).
        seed: of the start noise.
        guidance: largest weight of the guidance towards what is executed anyway (`wam.models.layers.guidance`); 0 for
            none. Guided chunks are denoised eagerly, whatever the backend.
        prefix_rows: most rows executed before a chunk can take over that it is conditioned on, at most as many as the
            network was trained for; 0 for none. Conditioned chunks are denoised eagerly, whatever the backend.
        plan: what runs the stages.
    """

    def __init__(
        self,
        model: AhaWam,
        *,
        contract: PolicyContract,
        vision: VisualEncoder,
        state_norm: Normaliser,
        action_norm: Normaliser,
        steps: int,
        seed: int,
        guidance: float = 0.0,
        prefix_rows: int = 0,
        plan: BackendPlan | None = None,
    ) -> None:
        if model.action is None:
            raise ValueError("this model was built without its executor half")
        self._model = model
        self._action = model.action
        self._config = model.config
        self._contract = contract
        self._vision = vision
        self._state_norm = state_norm
        self._action_norm = action_norm
        self._sigmas = sigma_grid(steps, shift_factor=self._config.infer_shift)
        self._seed = seed
        self._guidance = guidance
        self._prefix_rows = prefix_rows
        self._committed: Committed | None = None
        self._turns = turns_of(model.device)
        self._plan: stages.DenoisingSchedule | None = None
        self._ropes: dict[int, Rope] = {}
        self._text: tuple[Tensor, LayerKv] | None = None
        prepare, examples = (plan or eager_plan()).prepare, _Examples(model)
        executor, action = PolicyPart.EXECUTOR, model.action
        self._text_context = prepare(
            StageSpec("text_context", executor, stages.TextStage(action), examples.text)
        )
        # Without OVCR the planner's context is what is read.
        self._route: Callable[[Tensor, LayerKv], LayerKv] = lambda _, context: context
        if model.editor is not None:
            self._route = prepare(StageSpec("route", executor, stages.RouteStage(model), examples.route))
        self._proprio_kv = prepare(
            StageSpec("proprio_kv", executor, stages.ProprioStage(model), examples.proprio, immutable=True)
        )
        loop = EulerLoop(stages.StepStage(model), self._sigmas)
        self._denoise = prepare(
            StageSpec(
                "denoise",
                executor,
                loop,
                lambda: examples.denoise(self._schedule().modulations, self._rope(0)),
                immutable=True,
                kernels=DenoiseKernels(model, self._sigmas),
                regions=REGIONS,
            )
        )
        (plan or eager_plan()).declare("schedule", EAGER_NAME, "computed once, while the policy is loaded")
        if prefix_rows:
            (plan or eager_plan()).declare("denoise_after_prefix", EAGER_NAME, EAGER_REASON)

    @property
    def model(self) -> AhaWam:
        """The networks of the executor's half."""
        return self._model

    @property
    def vision(self) -> VisualEncoder:
        """The visual encoder, shared with the planner of the same process."""
        return self._vision

    @torch.inference_mode()
    def route(
        self, observation: Observation, *, context: PlannerContext[AhaContext]
    ) -> RoutedContext[AhaRouted]:
        """Adapt the planner's K/V to the newest image (paper Eq. 8-10).

        Raises:
            ContractMismatch: the context comes from another policy.
            StaleObservation: the observation is older than the context's image.
            StaleContext: the observation lies beyond the horizon of the context.
            ImageError: a camera is missing.
            PolicyFault: a routed key or value is not finite; the text names the layer.
        """
        started_ns = time.perf_counter_ns()
        self._turns.chunk_begins(self)
        try:
            return self._routed(observation, context, started_ns)
        except BaseException:
            self._turns.chunk_ended(self)
            raise

    def _routed(
        self, observation: Observation, context: PlannerContext[AhaContext], started_ns: int
    ) -> RoutedContext[AhaRouted]:
        header = context.header
        offset = routable_offset(self._contract, header, stamp_ns=observation.stamp_ns)
        latent = self._vision.latent(observation)
        device, dtype = self._model.device, self._model.dtype
        payload = context.payload
        planned = LayerKv(payload.k.to(device=device, dtype=dtype), payload.v.to(device=device, dtype=dtype))
        routed = self._route(latent, planned)
        if not all_finite(routed.k, routed.v):
            require_finite_layers(routed.k, what="routed key")
            require_finite_layers(routed.v, what="routed value")
        text = self._text_kv(payload.text)
        return RoutedContext(header, observation.stamp_ns, AhaRouted(routed, text, offset, started_ns))

    def continue_from(self, committed: Committed | None) -> None:
        """Take what the next chunk has to continue; see `wam.core.policy.Continuing`."""
        self._committed = committed

    def act(self, routed: RoutedContext[AhaRouted], *, proprio: RobotState) -> ActionChunk:
        """Denoise one chunk (paper Eq. 3).

        Raises:
            JointError: the state lacks a joint of the policy.
            PolicyFault: a value is not finite; the text names the step and the layer.
        """
        try:
            return self._chunk(routed, proprio)
        finally:
            self._turns.chunk_ended(self)

    def _chunk(self, routed: RoutedContext[AhaRouted], proprio: RobotState) -> ActionChunk:
        payload = routed.payload
        with torch.inference_mode():
            inputs = self._inputs(routed, proprio)
        committed = self._committed
        given = self._given(committed, proprio)
        if len(given):
            with torch.inference_mode():
                rows = self._conditioned(inputs, payload.context, given)
        elif self._guidance > 0 and committed is not None and committed.covered > 0:
            rows = self._guided(inputs, payload.context, committed, proprio)
        else:
            with torch.inference_mode():
                rows = self._denoise(
                    inputs.noise, inputs.plan.modulations, payload.context, inputs.text, inputs.rope
                )
        with torch.inference_mode():
            if not all_finite(rows):
                self._raise_fault(inputs, payload.context)
            si = self._action_norm.to_si(rows[0].cpu().numpy())
            si[: len(given)] = given
        return action_chunk(
            self._contract,
            routed,
            si,
            proprio=proprio,
            offset_rows=payload.offset_rows,
            started_ns=payload.started_ns,
        )

    def _inputs(self, routed: RoutedContext[AhaRouted], proprio: RobotState) -> _Inputs:
        """Return what one chunk is denoised from, but for the routed K/V."""
        payload, rows = routed.payload, self._contract.chunk_rows
        chunk = payload.offset_rows // rows
        state = self._state_norm.to_model(proprio.select(self._contract.state_joints).positions)
        state_1A = torch.from_numpy(state)[None].to(self._model.device)
        require_finite(state_1A, what="measured joint state")
        noise = start_noise(
            seed=self._seed,
            header=routed.header,
            chunk=chunk,
            rows=rows,
            width=len(self._contract.action_joints),
        )
        return _Inputs(
            noise=noise.to(self._model.device),
            plan=self._schedule(),
            text=self._proprio_kv(state_1A, payload.text),
            rope=self._rope(chunk),
        )

    def _given(self, committed: Committed | None, proprio: RobotState) -> npt.NDArray[np.float64]:
        """Return the rows that the next chunk is conditioned on, as the policy predicts them in SI units, [G, A]."""
        if committed is None:
            return np.empty((0, len(self._contract.action_joints)))
        count = min(committed.fixed, committed.covered, self._prefix_rows)
        return relative_rows(self._contract, committed.rows[:count], proprio=proprio)

    def _conditioned(self, inputs: _Inputs, context: LayerKv, given: npt.NDArray[np.float64]) -> Tensor:
        """Denoise a chunk behind rows that are given, float32 [1, R, A]."""
        return denoise_after(
            self._model,
            torch.from_numpy(self._action_norm.to_model(given))[None].to(inputs.noise),
            inputs.noise,
            plan=inputs.plan,
            context=context,
            text=inputs.text,
            rope=inputs.rope,
        )

    def _guided(self, inputs: _Inputs, context: LayerKv, committed: Committed, proprio: RobotState) -> Tensor:
        """Denoise a chunk that continues what is executed anyway, float32 [1, R, A]."""
        target = torch.from_numpy(
            self._action_norm.to_model(relative_rows(self._contract, committed.rows, proprio=proprio))
        )
        # Tensors that were made in inference mode cannot take part in a gradient.
        modulations, noise = inputs.plan.modulations.clone(), inputs.noise.clone()
        routed = LayerKv(*(one.clone() for one in context))
        text = LayerKv(*(one.clone() for one in inputs.text))
        rope = Rope(*(one.clone() for one in inputs.rope))

        def velocity(x_BRA: Tensor, i: int) -> Tensor:
            return stages.denoise_step(
                self._model, x_BRA, modulations=modulations[i], context=routed, text=text, rope=rope
            )

        field = guided(
            velocity,
            sigmas=inputs.plan.sigmas,
            target_BRA=target[None].to(noise),
            weights_R=prefix_weights(len(target), fixed=committed.fixed, covered=committed.covered),
            limit=self._guidance,
        )
        return integrate(field, noise, sigmas=inputs.plan.sigmas)

    def _schedule(self) -> stages.DenoisingSchedule:
        if self._plan is None:
            self._plan = stages.schedule(self._action, self._sigmas)
        return self._plan

    def _rope(self, chunk: int) -> Rope:
        if chunk not in self._ropes:
            rows = self._contract.chunk_rows
            positions = torch.arange(chunk * rows, (chunk + 1) * rows, device=self._model.device)
            self._ropes[chunk] = rope_1d(positions, head_dim=self._config.action.head_dim)
        return self._ropes[chunk]

    def _text_kv(self, rows: Tensor) -> LayerKv:
        rows = rows.to(device=self._model.device, dtype=self._model.dtype)
        if self._text is None or not (self._text[0] is rows or torch.equal(self._text[0], rows)):
            # The rows may be a view of memory that is recycled after this chunk.
            self._text = (rows.clone(), self._text_context(rows[None]))
        return self._text[1]

    def _raise_fault(self, inputs: _Inputs, context: LayerKv) -> None:
        """Repeat a failed integration and check every layer.

        Raises:
            PolicyFault: always; it names the step and the first place that is not finite.
        """

        def step(
            x_BRA: Tensor, *, modulations: Tensor, context: LayerKv, text: LayerKv, rope: Rope
        ) -> Tensor:
            index = next(calls)
            require_finite(x_BRA, what=f"noisy chunk before integration step {index}")

            def probe(place: str, value: Tensor) -> None:
                require_finite(value, what=f"{place} in integration step {index}")

            return stages.denoise_step(
                self._model,
                x_BRA,
                modulations=modulations,
                context=context,
                text=text,
                rope=rope,
                probe=probe,
            )

        text, plan = inputs.text, inputs.plan
        calls = iter(range(len(plan.sigmas)))
        require_finite_layers(text.k, what="text and state key of the action DiT")
        require_finite_layers(text.v, what="text and state value of the action DiT")
        rows = stages.denoise(step, inputs.noise, plan=plan, context=context, text=text, rope=inputs.rope)
        require_finite(rows, what="velocity of the action DiT's head")
        raise PolicyFault(
            "the action chunk is not finite, and its eager repetition is",
            where="the inference backend of the denoising stage",
        )
