# SPDX-License-Identifier: Apache-2.0
"""Inference as stages that a backend may compile, capture or export.

Each stage is a function of tensors with fixed shapes and no hidden state; the classes at the end are the same functions
as modules, which hold the weights that a stage reads and no others. They run in this order:

    stage            when                 in -> out
    text_context     new instruction      text rows -> cross-attention K/V of planner, of executor
    schedule         new sampler          sigmas -> modulations of every step
    vae_encode       every used image     pixels -> latent
    planner_prefill  planner refresh      latent, text K/V, memory -> K/V of every layer
    route            every chunk          latent, planner K/V -> routed K/V
    proprio_kv       every chunk          joint state -> one more row of the executor's text K/V
    denoise_step     every step           rows, modulations, K/V -> velocity; all N steps are the stage `denoise`

Shapes: B batch, L layers, S planner tokens, M memory tokens, T text rows, R rows of a chunk, A action
values, E text width, I attention width, N steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from wam.models.backends.stage import StageInputs
from wam.models.layers.flow import TRAIN_TIMESTEPS, integrate
from wam.models.layers.rope import Rope
from wam.policies.aha_wam.action_dit import ActionDit, Probe
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.ovcr import visual_tokens
from wam.policies.aha_wam.video_dit import LayerKv, VideoDit, VideoKv


@dataclass(frozen=True, slots=True)
class DenoisingSchedule:
    """A sampler's grid with everything that depends on it alone.

    Attributes:
        sigmas: N + 1 noise levels from 1 to 0.
        modulations: [N, L, 6, D] of the action DiT.
    """

    sigmas: tuple[float, ...]
    modulations: Tensor


class StepFunction(Protocol):
    """One velocity evaluation, eager or replaced by a backend."""

    def __call__(
        self, x_BRA: Tensor, *, modulations: Tensor, context: LayerKv, text: LayerKv, rope: Rope
    ) -> Tensor:
        """Return the velocity [B, R, A]; arguments as for `denoise_step`."""
        ...


class PrefillNetwork(Protocol):
    """What a prefill runs on: the video DiT, or its layers by kernels."""

    blocks: nn.ModuleList

    def tokens(self, z_BCFHW: Tensor) -> Tensor:
        """Cut latents into tokens; see `VideoDit.tokens`."""
        ...

    def prefill_layers(
        self,
        x_BND: Tensor,
        layers: range,
        *,
        text: LayerKv,
        modulations_L6D: Tensor,
        rope: Rope,
        memory: LayerKv | None = None,
        memory_rope: Rope | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, VideoKv]:
        """Run some layers; see `VideoDit.prefill_layers`."""
        ...


def text_context(network: VideoDit | ActionDit, text_BTE: Tensor) -> LayerKv:
    """Project text rows to the cross-attention K/V of every layer of one expert, [L, B, T, I]."""
    return network.text_kv(text_BTE)


def schedule(action: ActionDit, sigmas: Sequence[float]) -> DenoisingSchedule:
    """Prepare a sampler: network time 1000 sigma for every step but the end of the grid."""
    device = action.head.weight.device
    times = TRAIN_TIMESTEPS * torch.tensor(sigmas[:-1], dtype=torch.float64, device=device)
    return DenoisingSchedule(tuple(sigmas), action.modulations(times))


def vae_encode(encoder: nn.Module, image_B3HW: Tensor) -> Tensor:
    """Encode one image per batch entry: [B, 3, H, W] in [-1, 1] -> latent [B, C, 1, h, w]."""
    out: Tensor = encoder(image_B3HW)
    return out


def planner_prefill(
    video: PrefillNetwork,
    z_BC1HW: Tensor,
    *,
    text: LayerKv,
    modulations_L6D: Tensor,
    rope: Rope,
    memory: LayerKv | None = None,
    memory_rope: Rope | None = None,
    mask: Tensor | None = None,
) -> VideoKv:
    """Run one clean frame through the video DiT (paper Eq. 2).

    Args:
        video: planner's network.
        z_BC1HW: latent of the newest image.
        text: cross-attention K/V of the instruction.
        modulations_L6D: `video.clean_modulations()`, constant.
        rope: rotation of the frame's S tokens.
        memory: unrotated K and V of earlier prefills [L, B, M, I], oldest first.
        memory_rope: rotation of the M memory tokens.
        mask: boolean [1, 1, 1, M + S] that hides unused memory rows where a backend pads M.
    """
    _, kv = video.prefill_layers(
        video.tokens(z_BC1HW),
        range(len(video.blocks)),
        text=text,
        modulations_L6D=modulations_L6D,
        rope=rope,
        memory=memory,
        memory_rope=memory_rope,
        mask=mask,
    )
    return kv


def observation_queries(model: AhaWam, z_BC1HW: Tensor) -> Tensor:
    """Turn the newest image's latent into observation queries [B, Q, E] (paper Eq. 8)."""
    if model.visual_projection is None or model.query_encoder is None:
        raise ValueError("this network has no routing (queries = 0)")
    cells = visual_tokens(z_BC1HW).to(model.dtype)
    out: Tensor = model.query_encoder(model.visual_projection(cells))
    return out


def route(model: AhaWam, z_BC1HW: Tensor, context: LayerKv) -> LayerKv:
    """Adapt the planner's K/V to the newest image (paper Eq. 9 and 10); without OVCR it is the context itself."""
    if model.editor is None:
        return context
    routed: LayerKv = model.editor(observation_queries(model, z_BC1HW), context)
    return routed


def proprio_row(model: AhaWam, state_BA: Tensor) -> Tensor:
    """Return the joint state as one text row [B, 1, E]; `state_BA` is normalised."""
    if model.proprio is None:
        raise ValueError("this model was built without its proprioceptive encoder")
    out: Tensor = model.proprio(state_BA.to(model.proprio.weight.dtype)).unsqueeze(1)
    return out


def proprio_kv(model: AhaWam, state_BA: Tensor, text: LayerKv) -> LayerKv:
    """Append the state token to the executor's text K/V: [L, B, T + 1, I]."""
    if model.action is None:
        raise ValueError("this model was built without its executor half")
    row = model.action.text_kv(proprio_row(model, state_BA))
    return LayerKv(torch.cat((text.k, row.k), dim=2), torch.cat((text.v, row.v), dim=2))


def denoise_step(
    model: AhaWam,
    x_BRA: Tensor,
    *,
    modulations: Tensor,
    context: LayerKv,
    text: LayerKv,
    rope: Rope,
    probe: Probe | None = None,
) -> Tensor:
    """Predict the velocity of the noisy rows (paper Eq. 3 and 5).

    Args:
        model: executor's half is used.
        x_BRA: noisy rows, normalised units, float32.
        modulations: [L, 6, D] of this step; [B, L, 6, D] or [B, R, L, 6, D] where times differ.
        context: routed planner K/V.
        text: executor's text K/V with the state token.
        rope: rotation of the R rows: positions chunk_rows * chunk index + j.
        probe: sees the tokens after every layer.
    """
    if model.action is None:
        raise ValueError("this model was built without its executor half")
    out: Tensor = model.action(
        x_BRA,
        modulations=modulations,
        branch=model.branch(),
        context=context,
        text=text,
        rope=rope,
        probe=probe,
    )
    return out


def denoise(
    step: StepFunction,
    noise_BRA: Tensor,
    *,
    plan: DenoisingSchedule,
    context: LayerKv,
    text: LayerKv,
    rope: Rope,
) -> Tensor:
    """Integrate from noise to actions; `noise_BRA` is never written to.

    Args:
        step: velocity function, `functools.partial(denoise_step, model)` or a backend's.
        noise_BRA: standard normal rows.
        plan: from `schedule`.
        context: routed planner K/V.
        text: executor's text K/V with the state token.
        rope: rotation of the R rows.

    Returns:
        float32 [B, R, A], normalised units.
    """

    def velocity(x: Tensor, i: int) -> Tensor:
        return step(x, modulations=plan.modulations[i], context=context, text=text, rope=rope)

    return integrate(velocity, noise_BRA, sigmas=plan.sigmas)


class PrefillStage(nn.Module):
    """`planner_prefill` as a module."""

    def __init__(self, video: PrefillNetwork) -> None:
        super().__init__()
        self.video = video

    def forward(
        self,
        z_BC1HW: Tensor,
        text: LayerKv,
        modulations_L6D: Tensor,
        rope: Rope,
        memory: LayerKv | None = None,
        memory_rope: Rope | None = None,
    ) -> VideoKv:
        """Run one clean frame through the video DiT."""
        return planner_prefill(
            self.video,
            z_BC1HW,
            text=text,
            modulations_L6D=modulations_L6D,
            rope=rope,
            memory=memory,
            memory_rope=memory_rope,
        )


class PaddedPrefillStage(nn.Module):
    """`planner_prefill` with a mask, for a memory that is padded to its full window."""

    def __init__(self, video: PrefillNetwork) -> None:
        super().__init__()
        self.video = video

    def forward(
        self,
        z_BC1HW: Tensor,
        text: LayerKv,
        modulations_L6D: Tensor,
        rope: Rope,
        memory: LayerKv | None = None,
        memory_rope: Rope | None = None,
        mask: Tensor | None = None,
    ) -> VideoKv:
        """Run one clean frame through the video DiT."""
        return planner_prefill(
            self.video,
            z_BC1HW,
            text=text,
            modulations_L6D=modulations_L6D,
            rope=rope,
            memory=memory,
            memory_rope=memory_rope,
            mask=mask,
        )


def padded_prefill(inputs: StageInputs, *, rows: int) -> StageInputs:
    """Return the inputs of a prefill as `PaddedPrefillStage` takes them.

    Args:
        inputs: of `PrefillStage`.
        rows: M of a full memory; without any memory there is nothing to pad.
    """
    (z, text, modulations, rope, memory, memory_rope), _ = inputs.arguments()
    if memory is None:
        return StageInputs.of(z, text, modulations, rope, None, None, None)
    lacking = rows - memory.k.shape[2]

    def longer(rows_first: Tensor) -> Tensor:
        return torch.cat((rows_first.new_zeros(lacking, *rows_first.shape[1:]), rows_first))

    kept = LayerKv(*(longer(one.movedim(2, 0)).movedim(0, 2) for one in memory))
    turned = Rope(*(longer(one) for one in memory_rope))
    own = len(rope.cos)
    # In full: ONNX Runtime does not stretch a mask over the queries.
    mask = (torch.arange(rows + own, device=z.device) >= lacking).expand(1, 1, own, -1)
    return StageInputs.of(z, text, modulations, rope, kept, turned, mask)


class PrefillSlice(nn.Module):
    """Some layers of `planner_prefill`, see `wam.models.backends.stage.StageSlices`.

    Args:
        video: the network.
        layers: which of its layers.
    """

    def __init__(self, video: PrefillNetwork, layers: range) -> None:
        super().__init__()
        self.video, self._layers = video, layers

    def forward(
        self,
        before: tuple[Tensor, ...],
        z_BC1HW: Tensor,
        text: LayerKv,
        modulations_L6D: Tensor,
        rope: Rope,
        memory: LayerKv | None = None,
        memory_rope: Rope | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the tokens and the K/V of all layers so far; the last slice the K/V of all layers."""
        x, kv = self.video.prefill_layers(
            before[0] if before else self.video.tokens(z_BC1HW),
            self._layers,
            text=text,
            modulations_L6D=modulations_L6D,
            rope=rope,
            memory=memory,
            memory_rope=memory_rope,
        )
        parts = (*before[1:], *kv)
        if self._layers.stop < len(self.video.blocks):
            return (x, *parts)
        return tuple(torch.cat(parts[kind::3]) for kind in range(3))


def prefill_slices(video: PrefillNetwork, *, count: int) -> tuple[PrefillSlice, ...]:
    """Return a prefill in slices of about as many layers each."""
    layers = len(video.blocks)
    size = -(-layers // count)
    return tuple(
        PrefillSlice(video, range(first, min(first + size, layers))) for first in range(0, layers, size)
    )


class TextStage(nn.Module):
    """`text_context` as a module."""

    def __init__(self, network: VideoDit | ActionDit) -> None:
        super().__init__()
        self.network = network

    def forward(self, text_BTE: Tensor) -> LayerKv:
        """Project text rows to the cross-attention K/V of every layer."""
        return text_context(self.network, text_BTE)


class _ModelStage(nn.Module):
    """A stage of the executor; registers those parts of the model alone that it reads.

    Args:
        model: with its executor half.
        parts: names of the parts.
    """

    def __init__(self, model: AhaWam, parts: Sequence[str]) -> None:
        super().__init__()
        for part in parts:
            setattr(self, part, getattr(model, part))
        # Not as a submodule: the weights of the other parts are none of this stage's.
        self.__dict__["_model"] = model

    @property
    def _whole(self) -> AhaWam:
        model: AhaWam = self.__dict__["_model"]
        return model


class RouteStage(_ModelStage):
    """`route` as a module."""

    def __init__(self, model: AhaWam) -> None:
        super().__init__(model, ("visual_projection", "query_encoder", "editor"))

    def forward(self, z_BC1HW: Tensor, context: LayerKv) -> LayerKv:
        """Adapt the planner's K/V to the newest image."""
        return route(self._whole, z_BC1HW, context)


class ProprioStage(_ModelStage):
    """`proprio_kv` as a module."""

    def __init__(self, model: AhaWam) -> None:
        super().__init__(model, ("proprio", "action"))

    def forward(self, state_BA: Tensor, text: LayerKv) -> LayerKv:
        """Append the state token to the executor's text K/V."""
        return proprio_kv(self._whole, state_BA, text)


class StepStage(_ModelStage):
    """`denoise_step` as a module."""

    def __init__(self, model: AhaWam) -> None:
        super().__init__(model, ("action", "branch_embedding"))

    def forward(
        self, x_BRA: Tensor, modulations: Tensor, context: LayerKv, text: LayerKv, rope: Rope
    ) -> Tensor:
        """Predict the velocity of the noisy rows."""
        return denoise_step(
            self._whole, x_BRA, modulations=modulations, context=context, text=text, rope=rope
        )
