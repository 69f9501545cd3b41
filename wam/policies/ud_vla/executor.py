# SPDX-License-Identifier: Apache-2.0
"""UD-VLA's executor: prefix in, future images and action chunk out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wam.core.chunk import ActionChunk
from wam.core.context import ContextHeader, PlannerContext
from wam.core.contract import PolicyContract
from wam.core.errors import InputError, UndecodableChunk
from wam.core.observation import CameraFrame, Observation, RobotState
from wam.core.policy import Features, RoutedContext, routable_offset
from wam.models.backends.backend import HOST_NAME
from wam.models.backends.plan import BackendPlan, eager_plan
from wam.models.finite import require_finite_layers
from wam.models.normalisation import Normaliser
from wam.policies.results import action_chunk, chunk_seed
from wam.policies.ud_vla.config import MaskMode
from wam.policies.ud_vla.context import UdVlaContext, UdVlaRouted
from wam.policies.ud_vla.decoder import UdVlaDecoder
from wam.policies.ud_vla.device_schedule import DeviceSchedule
from wam.policies.ud_vla.fast import FastChunk, FastTokenizer
from wam.policies.ud_vla.jd3p import Decoded, Evaluate, Heads, Jd3pSettings, UnmaskRule, decode
from wam.policies.ud_vla.sampling import RandomDraws, SiteDraws
from wam.policies.ud_vla.sequence import SequenceLayout
from wam.policies.ud_vla.stages import StagedPass, pass_stage
from wam.policies.ud_vla.vision import ImageTokenizer, pixels_of


@dataclass(frozen=True, slots=True)
class FutureImages:
    """Predicted images for the end of a chunk; kept as codes, see `wam.core.policy.Imagination`.

    Attributes:
        stamp_ns: acquisition time of the images that the chunk was made from [ns].
        target_stamp_ns: time of the expected images [ns].
        codes: camera -> int64 [h, w].
        vision: turns codes into images.
    """

    stamp_ns: int
    target_stamp_ns: int
    codes: Mapping[str, Tensor]
    vision: ImageTokenizer

    def features(self) -> Features:
        """Return all expected images as `UdVlaPlanner.perceive` sees images, camera -> float32 [H, W, 3] in 0..1."""
        return {camera: pixels_of(self.vision.decode(codes)) for camera, codes in self.codes.items()}

    def frame(self, camera: str) -> CameraFrame | None:
        """Return the image expected of a camera, in the size that the policy sees; None for an unknown camera."""
        codes = self.codes.get(camera)
        return None if codes is None else CameraFrame(camera, self.target_stamp_ns, self.vision.decode(codes))


class UdVlaExecutor:
    """Joint denoising of future images and action. One worker thread calls it.

    Args:
        decoder: loaded.
        vision: turns predicted codes into images.
        contract: of the bundle.
        layout: of the sequence.
        fast: action tokenizer.
        action_norm: of the action rows.
        settings: of the sampler.
        example: ids of a prefix as the policy's own instruction gives it, for which the stages are prepared.
        plan: what runs the stages.
        device_schedule: whether the sampler's schedule runs on the device (`device_schedule`); None where there is one.
            It draws one number for every site, so the same seed gives other draws than the schedule on the host.
    """

    def __init__(
        self,
        decoder: UdVlaDecoder,
        vision: ImageTokenizer,
        *,
        contract: PolicyContract,
        layout: SequenceLayout,
        fast: FastTokenizer,
        action_norm: Normaliser,
        settings: Jd3pSettings,
        example: Tensor,
        plan: BackendPlan | None = None,
        device_schedule: bool | None = None,
    ) -> None:
        self._decoder = decoder
        self._vision = vision
        self._contract = contract
        self._layout = layout
        self._fast = fast
        self._action_norm = action_norm
        self._heads = Heads.of(decoder, layout)
        self._imagination: FutureImages | None = None
        self._levels = layout.levels.to(decoder.device)
        self._plan = plan or eager_plan()
        self._pass = pass_stage(decoder, self._plan, layout=layout, prefix=example)
        self._on_device = decoder.device.type != "cpu" if device_schedule is None else device_schedule
        if not self._on_device:
            self._plan.declare("unmask", HOST_NAME, "without a device of its own the schedule costs nothing")
        self._schedules: dict[tuple[UnmaskRule, bool], DeviceSchedule] = {}
        self.configure(settings)

    @property
    def settings(self) -> Jd3pSettings:
        """Settings of the sampler in force."""
        return self._settings

    @property
    def imagination(self) -> FutureImages | None:
        """Images predicted beside the last chunk; None before the first, and where the tokens are no image."""
        return self._imagination

    def configure(self, settings: Jd3pSettings) -> None:
        """Change the sampler between two chunks; called from the worker thread."""
        self._settings = settings
        if not self._on_device:
            return
        if (known := self._schedules.get((settings.rule, settings.freeze))) is not None:
            known.configure(settings)
        else:
            decoder = self._decoder
            self._schedules[settings.rule, settings.freeze] = DeviceSchedule(
                self._heads,
                layout=self._layout,
                width=decoder.config.hidden,
                dtype=decoder.dtype,
                plan=self._plan,
                settings=settings,
            )

    @torch.inference_mode()
    def route(
        self, observation: Observation, *, context: PlannerContext[UdVlaContext]
    ) -> RoutedContext[UdVlaRouted]:
        """Check that the context can serve the observation, and bring it to the executor's device.

        Raises:
            ContractMismatch: the context comes from another policy.
            StaleObservation: the observation is older than the context's image.
            StaleContext: the observation lies beyond the horizon of the context.
        """
        started_ns = time.perf_counter_ns()
        header = context.header
        offset = routable_offset(self._contract, header, stamp_ns=observation.stamp_ns)
        device, dtype = self._decoder.device, self._decoder.dtype
        payload = context.payload
        # Each routed context has tensors of its own: where memory is recycled, another context is another object.
        k = payload.k.to(device=device, dtype=dtype).detach()
        v = payload.v.to(device=device, dtype=dtype).detach()
        routed = UdVlaRouted(payload.ids.to(device).detach(), k, v, offset, started_ns)
        return RoutedContext(header, observation.stamp_ns, routed)

    @torch.inference_mode()
    def act(self, routed: RoutedContext[UdVlaRouted], *, proprio: RobotState) -> ActionChunk:
        """Denoise one chunk; what the policy expects to see is in `imagination` afterwards.

        The rows of the chunk begin at the context's image. Those that the observation has overtaken are left
        out, so that row 0 is due at the observation's stamp.

        Raises:
            JointError: the state lacks a joint of the policy.
            UndecodableChunk: the sampled tokens do not decode to an action; the text says why.
            PolicyFault: a value is not finite.
        """
        header, payload = routed.header, routed.payload
        proprio.select(self._contract.state_joints)
        seed = chunk_seed(self._settings.seed, header=header, index=payload.offset_rows)
        generator = torch.Generator(device=self._decoder.device).manual_seed(seed)
        result = self._decoded(self._evaluator(payload), generator)
        ids = result.ids.cpu()
        chunk = self._chunk(ids[self._layout.image_len :])
        if not chunk.valid:
            self._imagination = None
            require_finite_layers(payload.k, what="key of the planner context")
            require_finite_layers(payload.v, what="value of the planner context")
            raise UndecodableChunk(
                f"the sampled tokens do not decode to an action: {'; '.join(chunk.problems)}",
                where="the weights, the action tokenizer or sampler.steps of the policy",
            )
        self._imagination = self._predicted(ids, header)
        rows = self._action_norm.to_si(chunk.rows)[payload.offset_rows :]
        return action_chunk(
            self._contract,
            routed,
            rows,
            proprio=proprio,
            offset_rows=payload.offset_rows,
            started_ns=payload.started_ns,
        )

    def _decoded(self, evaluate: Evaluate, generator: torch.Generator) -> Decoded:
        settings, layout = self._settings, self._layout
        if self._on_device:
            draws = SiteDraws.draw(generator, steps=settings.steps, sites=layout.generated_len)
            return self._schedules[settings.rule, settings.freeze].decode(evaluate, draws)
        return decode(evaluate, self._heads, RandomDraws(generator), layout=layout, settings=settings)

    def _evaluator(self, payload: UdVlaRouted) -> Evaluate:
        if self._decoder.config.mask is MaskMode.RELEASED:
            return StagedPass(self._pass, (payload.ids,), whole=True)
        return StagedPass(self._pass, (self._levels, payload.k, payload.v), whole=False)

    def _chunk(self, action_ids_A: Tensor) -> FastChunk:
        rows, dims = self._contract.chunk_rows, len(self._contract.action_joints)
        tokens = self._layout.tokens.action_last - self._layout.action_ids_of(action_ids_A)
        return self._fast.decode(tokens.tolist(), rows=rows, dims=dims)

    def _predicted(self, ids_G: Tensor, header: ContextHeader) -> FutureImages | None:
        try:
            codes = self._layout.codes_of(ids_G[: self._layout.image_len])
        except InputError:
            # A header mark among the codes makes the image unusable, not the action.
            return None
        ahead_ns = self._contract.chunk_rows * self._contract.control_period_ns
        named = dict(zip(self._contract.camera_names, codes, strict=True))
        return FutureImages(header.stamp_ns, header.stamp_ns + ahead_ns, named, self._vision)
