# SPDX-License-Identifier: Apache-2.0
"""The forward pass of joint training: planner, routing and action expert in one graph.

Every random number is an argument (`Draws`), so a step can be repeated, resumed and compared.

Shapes: see `batch`; S tokens of one latent frame, N = F * S, I attention width, L layers, Q = B * K chunks.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wam.models.layers.dit_block import DitBlock
from wam.models.layers.flow import TRAIN_TIMESTEPS, interpolate, shift, velocity_target
from wam.models.layers.rope import Rope, rope_1d, rope_3d
from wam.policies.aha_wam import stages
from wam.policies.aha_wam.action_dit import ActionDit
from wam.policies.aha_wam.config import AhaWamConfig
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.prefix import given_rows
from wam.policies.aha_wam.training.batch import LatentBatch
from wam.policies.aha_wam.training.losses import Losses, action_loss, video_loss
from wam.policies.aha_wam.video_dit import LayerKv, VideoDit, frame_mask
from wam.training.action_error import PredictedRows
from wam.training.objective import Objective


class NoiseTimes(enum.Enum):
    """Distribution of the flow time before the shift."""

    UNIFORM = "uniform"
    """As the released code draws it."""
    LOGIT_NORMAL = "logit_normal"
    """As the paper writes it."""


class Draws(NamedTuple):
    """The random numbers of one step.

    Attributes:
        video_noise: standard normal, shape of the latents.
        video_u: flow time of the video before the shift, [B].
        action_noise: standard normal, shape of the action rows.
        action_u: flow time of each chunk before the shift, [B, K].
        prefix: rows of each chunk that are given clean, int64 [B, K]; None where none are.
    """

    video_noise: Tensor
    video_u: Tensor
    action_noise: Tensor
    action_u: Tensor
    prefix: Tensor | None = None


class Velocities(NamedTuple):
    """What the networks predicted and what they should have.

    Attributes:
        video: [B, C, F, h, w]; frame 0 has no meaning.
        video_target: same shape.
        video_t: network time [B].
        action: [B, H, A].
        action_target: same shape.
        action_t: network time [B, K].
        given: rows that were given clean and do not count, bool [B, H]; None where none were.
    """

    video: Tensor
    video_target: Tensor
    video_t: Tensor
    action: Tensor
    action_target: Tensor
    action_t: Tensor
    given: Tensor | None = None


def draw(
    batch: LatentBatch,
    generator: torch.Generator,
    *,
    times: NoiseTimes = NoiseTimes.UNIFORM,
    per_chunk: bool = True,
    prefix_rows: int = 0,
) -> Draws:
    """Draw the random numbers of one step, on the device of `generator`, in float32.

    Args:
        batch: gives the shapes.
        generator: its state is part of a checkpoint.
        times: distribution of the flow times.
        per_chunk: a flow time of its own for every chunk, else one per sample.
        prefix_rows: each chunk is given 0 to so many of its first rows, all numbers being as likely.
    """
    device = generator.device

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, device=device)

    def flow_time(count: int) -> Tensor:
        if times is NoiseTimes.UNIFORM:
            return torch.rand(count, generator=generator, device=device)
        return torch.randn(count, generator=generator, device=device).sigmoid()

    video_noise, video_u = normal(batch.z_BCFHW), flow_time(batch.size)
    action_noise = normal(batch.actions_BHA)
    if per_chunk:
        action_u = flow_time(batch.size * batch.chunks).view(batch.size, batch.chunks)
    else:
        action_u = flow_time(batch.size)[:, None].expand(-1, batch.chunks)
    prefix = None
    if prefix_rows:
        shape = (batch.size, batch.chunks)
        prefix = torch.randint(prefix_rows + 1, shape, generator=generator, device=device)
    return Draws(video_noise, video_u, action_noise, action_u, prefix)


def video_rope(config: AhaWamConfig, positions_BF: Tensor) -> Rope:
    """Return the rotation of every sample's frames, [B, F * S, 1, head_dim]."""
    flat = rope_3d(
        positions_BF.flatten(),
        rows=config.token_rows,
        columns=config.token_columns,
        head_dim=config.video.head_dim,
    )
    shape = (positions_BF.shape[0], positions_BF.shape[1] * config.frame_tokens)
    return Rope(flat.cos.unflatten(0, shape), flat.sin.unflatten(0, shape))


def history_visible(valid_B: Tensor, frames: int, tokens: int) -> Tensor:
    """Return which history tokens exist, bool [B, M * S]; the valid frames are the last ones."""
    frame = torch.arange(frames, device=valid_B.device)
    return (frame[None] >= frames - valid_B[:, None]).repeat_interleave(tokens, dim=1)


def _video(model: AhaWam) -> VideoDit:
    if model.video is None:
        raise ValueError("training needs the planner's half of the model")
    return model.video


def _action(model: AhaWam) -> ActionDit:
    if model.action is None:
        raise ValueError("training needs the executor's half of the model")
    return model.action


def planner_text(model: AhaWam, batch: LatentBatch) -> LayerKv:
    """Return the planner's cross-attention K/V; Fast-WAM appends the state token."""
    rows = batch.text_BTE
    if model.config.proprio_in_planner:
        rows = torch.cat((rows, stages.proprio_row(model, batch.states_BKJ[:, 0])), dim=1)
    return _video(model).text_kv(rows)


@torch.no_grad()
def history_kv(model: AhaWam, batch: LatentBatch, text: LayerKv) -> LayerKv | None:
    """Return the rotated K/V of the history frames, or None where the batch has none or the model no memory.

    All valid frames go through in one pass, clean, each seeing itself and the earlier ones. There is no
    gradient: at deployment the memory is written by earlier prefills.
    """
    frames = batch.history_BMCHW.shape[1]
    if frames == 0 or model.config.memory_window == 0:
        return None
    config, video = model.config, _video(model)
    S = config.frame_tokens
    device = batch.z_BCFHW.device
    causal = frame_mask(frames, S, only_first=False, device=device)
    exists = history_visible(batch.history_valid_B, frames, S)
    # A padding token sees itself, because a row that sees nothing has no softmax; nobody else sees it.
    itself = torch.eye(frames * S, dtype=torch.bool, device=device)
    mask = (causal[None] & exists[:, None, :]) | itself[None]
    kv = video.prefill(
        batch.history_BMCHW.transpose(1, 2),
        text=text,
        modulations_L6D=video.clean_modulations(),
        rope=video_rope(config, batch.history_positions_BM),
        mask=mask[:, None],
    )
    return LayerKv(kv.k, kv.v)


def planner_mask(model: AhaWam, batch: LatentBatch, *, frames: int, history: LayerKv | None) -> Tensor:
    """Return the planner's training mask, bool [B, 1, N, M * S + N]: valid history, then own frames."""
    S = model.config.frame_tokens
    own = frame_mask(frames, S, only_first=model.config.first_frame_causal, device=batch.z_BCFHW.device)
    mask = own[None].expand(batch.size, -1, -1)
    if history is not None:
        exists = history_visible(batch.history_valid_B, batch.history_BMCHW.shape[1], S)
        mask = torch.cat((exists[:, None].expand(-1, frames * S, -1), mask), dim=2)
    return mask[:, None]


def current_context(model: AhaWam, batch: LatentBatch) -> LayerKv:
    """Return the planner's K/V of the newest image alone, as a prefill at deployment computes them.

    Frame 0 sees no later frame in training either, so these equal the K/V of the training pass.
    """
    video = _video(model)
    text = planner_text(model, batch)
    history = history_kv(model, batch, text)
    kv = video.prefill(
        batch.z_BCFHW[:, :, :1],
        text=text,
        modulations_L6D=video.clean_modulations(),
        rope=video_rope(model.config, batch.positions_BF[:, :1]),
        memory=history,
        mask=None if history is None else planner_mask(model, batch, frames=1, history=history),
    )
    return LayerKv(kv.k, kv.v)


def chunk_contexts(model: AhaWam, batch: LatentBatch, context: LayerKv) -> LayerKv:
    """Adapt one planner context per sample to the observation of each of its chunks, [L, Q, S, I]."""
    K = batch.chunks
    spread = LayerKv(context.k.repeat_interleave(K, dim=1), context.v.repeat_interleave(K, dim=1))
    return stages.route(model, batch.observations_BKCHW.flatten(0, 1)[:, :, None], spread)


def chunk_text(model: AhaWam, batch: LatentBatch) -> LayerKv:
    """Return the executor's cross-attention K/V of each chunk: text rows and the chunk's own state token."""
    K = batch.chunks
    rows = _action(model).text_kv(batch.text_BTE)
    spread = LayerKv(rows.k.repeat_interleave(K, dim=1), rows.v.repeat_interleave(K, dim=1))
    return stages.proprio_kv(model, batch.states_BKJ.flatten(0, 1), spread)


def action_rope(model: AhaWam, batch: LatentBatch) -> Rope:
    """Return the rotation of each chunk's rows, [Q, R, 1, head_dim]: positions 16 c + j, whatever the offset."""
    rows = batch.actions_BHA.shape[1] // batch.chunks
    flat = rope_1d(
        torch.arange(batch.actions_BHA.shape[1], device=batch.actions_BHA.device),
        head_dim=model.config.action.head_dim,
    )
    shape = (batch.chunks, rows)
    repeat = (batch.size, 1, 1, 1)
    return Rope(flat.cos.unflatten(0, shape).repeat(repeat), flat.sin.unflatten(0, shape).repeat(repeat))


def action_velocity(
    model: AhaWam, x_BHA: Tensor, t_BK: Tensor, *, context: LayerKv, text: LayerKv, rope: Rope
) -> Tensor:
    """Predict the velocity of all chunks of a batch, [B, H, A].

    Args:
        model: its executor half.
        x_BHA: noisy rows.
        t_BK: network time of each chunk, or of each row, [B, K, R].
        context: from `chunk_contexts`.
        text: from `chunk_text`.
        rope: from `action_rope`.
    """
    B, K = t_BK.shape[:2]
    chunks = x_BHA.unflatten(1, (K, -1)).flatten(0, 1)
    modulations = _action(model).modulations(t_BK.flatten(0, 1))
    velocity = stages.denoise_step(
        model, chunks, modulations=modulations, context=context, text=text, rope=rope
    )
    rows: Tensor = velocity.unflatten(0, (B, K)).flatten(1, 2)
    return rows


def joint_velocities(model: AhaWam, batch: LatentBatch, draws: Draws) -> Velocities:
    """Run planner and executor as one graph (paper section 3.1).

    The planner sees noisy future latents under a causal mask; the executor sees only the K/V of frame 0, routed by
    the image of each chunk, so no future reaches an action.
    """
    config, video = model.config, _video(model)
    S, frames = config.frame_tokens, batch.z_BCFHW.shape[2]

    sigma_v = torch.as_tensor(shift(draws.video_u, config.train_shift))
    noisy = interpolate(batch.z_BCFHW, draws.video_noise, sigma_v.view(-1, 1, 1, 1, 1))
    noisy = torch.cat((batch.z_BCFHW[:, :, :1], noisy[:, :, 1:]), dim=2)
    video_t = TRAIN_TIMESTEPS * sigma_v
    t_BN = torch.cat(
        (torch.zeros_like(video_t[:, None].expand(-1, S)), video_t[:, None].expand(-1, (frames - 1) * S)), 1
    )

    text = planner_text(model, batch)
    history = history_kv(model, batch, text)
    video_velocity, kv = video(
        noisy,
        t_BN,
        text=text,
        rope=video_rope(config, batch.positions_BF),
        mask=planner_mask(model, batch, frames=frames, history=history),
        history=history,
    )

    context = chunk_contexts(model, batch, LayerKv(kv.k[:, :, :S], kv.v[:, :, :S]))
    sigma_a = torch.as_tensor(shift(draws.action_u, config.train_shift))
    rows = batch.actions_BHA.shape[1] // batch.chunks
    per_row = sigma_a.repeat_interleave(rows, dim=1)
    action_t = network_t = TRAIN_TIMESTEPS * sigma_a
    given = None
    if draws.prefix is not None:
        given = given_rows(draws.prefix, rows=rows).flatten(1)
        per_row = per_row.masked_fill(given, 0.0)
        network_t = TRAIN_TIMESTEPS * per_row.unflatten(1, (batch.chunks, rows))
    action = action_velocity(
        model,
        interpolate(batch.actions_BHA, draws.action_noise, per_row[..., None]),
        network_t,
        context=context,
        text=chunk_text(model, batch),
        rope=action_rope(model, batch),
    )
    return Velocities(
        video=video_velocity,
        video_target=velocity_target(batch.z_BCFHW, draws.video_noise),
        video_t=video_t,
        action=action,
        action_target=velocity_target(batch.actions_BHA, draws.action_noise),
        action_t=action_t,
        given=given,
    )


Predict = Callable[[AhaWam, LatentBatch, torch.Generator], PredictedRows]
"""Samples the rows of a batch; see `wam.policies.aha_wam.training.predict`."""


class JointObjective(Objective[LatentBatch]):
    """The joint loss of planner and executor.

    Args:
        model: both halves.
        video_weight: lambda of Eq. 7.
        times: distribution of the flow times.
        per_chunk: a flow time of its own for every chunk, else one per sample.
        predict: samples the rows of a batch; None where their error is not wanted.
    """

    blocks = (DitBlock,)
    first_holds_weights = True

    def __init__(
        self,
        model: AhaWam,
        *,
        video_weight: float = 1.0,
        times: NoiseTimes = NoiseTimes.UNIFORM,
        per_chunk: bool = True,
        predict: Predict | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._predict = predict
        self.video_weight = video_weight
        self._times = times
        self._per_chunk = per_chunk

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Total, video and action."""
        return Losses._fields

    @property
    def network(self) -> nn.Module:
        """The model."""
        return self.model

    def draw(self, batch: LatentBatch, generator: torch.Generator) -> Draws:
        """Draw the random numbers of one step."""
        prefix_rows = self.model.config.prefix_rows
        return draw(batch, generator, times=self._times, per_chunk=self._per_chunk, prefix_rows=prefix_rows)

    def predict(self, batch: LatentBatch, generator: torch.Generator) -> PredictedRows | None:
        """Return the rows of all chunks."""
        return None if self._predict is None else self._predict(self.model, batch, generator)

    def forward(self, batch: LatentBatch, draws: Draws) -> Losses:
        """Return L = L_a + lambda L_v (Eq. 7) and its two terms."""
        out = joint_velocities(self.model, batch, draws)
        factor = self.model.config.train_shift
        video = video_loss(out.video, out.video_target, out.video_t, batch.latent_is_pad_BF, shift=factor)
        ignored = batch.action_is_pad_BH if out.given is None else batch.action_is_pad_BH | out.given
        action = action_loss(out.action, out.action_target, out.action_t, ignored, shift=factor)
        return Losses(action + self.video_weight * video, video, action)
