# SPDX-License-Identifier: Apache-2.0
"""AHA-WAM-Flash: a student that jumps from any anchor of the teacher's path to its end (paper appendix D).

The teacher integrates 16 Euler steps. The student starts from the teacher's state at one anchor and predicts
the velocity whose straight line ends at the teacher's final actions. Planner, routing and proprioception are
the teacher's and stay frozen: only the action expert and its branch embedding learn, so that the student
plugs into the same context.

Since the shifted 16-step grid contains the 1-, 2- and 4-step grids, sampling the student is the same Euler
rule with fewer steps.

Shapes: see `batch`; B batch, K chunks, H rows, A numbers of a row.
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wam.models.layers.dit_block import DitBlock
from wam.models.layers.flow import TRAIN_TIMESTEPS, integrate, predict_x0, sigma_grid
from wam.models.layers.rope import Rope
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.training.batch import LatentBatch
from wam.policies.aha_wam.training.forward import (
    Predict,
    action_rope,
    action_velocity,
    chunk_contexts,
    chunk_text,
    current_context,
)
from wam.policies.aha_wam.training.losses import endpoint_loss
from wam.policies.aha_wam.video_dit import LayerKv
from wam.training.action_error import PredictedRows
from wam.training.objective import Objective

TEACHER_STEPS = 16
ANCHORS = (0, 1, 2, 4, 8, 12, 16)
"""Steps of the teacher's path, from noise to data; the last one is the target."""

STARTS = ANCHORS[:-1]
FROZEN_PARTS = ("video", "editor", "query_encoder", "visual_projection", "proprio")


class AnchorBias(enum.Enum):
    """How often each anchor is a starting point."""

    UNIFORM = "uniform"
    """As the released code draws it."""
    NOISY = "noisy"
    """Nearer the noise more often, as the paper writes it: weight 16 - step."""


class DistillDraws(NamedTuple):
    """The random numbers of one distillation step.

    Attributes:
        noise: standard normal, shape of the action rows.
        anchor: index into `STARTS` of each chunk, int64 [B, K].
    """

    noise: Tensor
    anchor: Tensor


class ChunkInputs(NamedTuple):
    """What the action expert reads besides the noisy rows; from the frozen parts, without gradient.

    Attributes:
        context: routed planner K/V of each chunk.
        rope: rotation of each chunk's rows.
    """

    context: LayerKv
    rope: Rope


class DistillLosses(NamedTuple):
    """Scalars of one step.

    Attributes:
        total: mean squared distance between the student's and the teacher's final actions.
    """

    total: Tensor


def anchor_weights(bias: AnchorBias) -> tuple[float, ...]:
    """Return the probability of each entry of `STARTS`."""
    raw = [1.0 if bias is AnchorBias.UNIFORM else float(TEACHER_STEPS - step) for step in STARTS]
    return tuple(w / sum(raw) for w in raw)


def draw_distill(
    batch: LatentBatch,
    generator: torch.Generator,
    *,
    bias: AnchorBias = AnchorBias.UNIFORM,
    per_chunk: bool = True,
) -> DistillDraws:
    """Draw start noise and anchors, on the device of `generator`.

    Args:
        batch: gives the shapes.
        generator: its state is part of a checkpoint.
        bias: how often each anchor is drawn.
        per_chunk: an anchor of its own for every chunk, else one per sample.
    """
    device = generator.device
    noise = torch.randn(batch.actions_BHA.shape, generator=generator, device=device)
    columns = batch.chunks if per_chunk else 1
    weights = torch.tensor(anchor_weights(bias), device=device)
    flat = torch.multinomial(weights, batch.size * columns, replacement=True, generator=generator)
    return DistillDraws(noise, flat.view(batch.size, columns).expand(-1, batch.chunks))


def make_teacher(model: AhaWam) -> AhaWam:
    """Return a frozen copy whose action expert is its own; the frozen parts are shared, not copied."""
    shared = {id(part): part for name in FROZEN_PARTS if (part := getattr(model, name)) is not None}
    teacher = copy.deepcopy(model, memo=dict(shared))
    return teacher.eval().requires_grad_(False)


def freeze_for_distillation(model: AhaWam) -> list[nn.Parameter]:
    """Let only the action expert and the branch embedding learn; return their parameters."""
    if model.action is None or model.branch_embedding is None:
        raise ValueError("distillation needs the executor's half of the model")
    model.requires_grad_(False)
    model.action.requires_grad_(True)
    model.branch_embedding.requires_grad_(True)
    return [p for p in model.parameters() if p.requires_grad]


@torch.no_grad()
def chunk_inputs(model: AhaWam, batch: LatentBatch) -> ChunkInputs:
    """Run planner and routing once, as at deployment: clean current frame and history only."""
    return ChunkInputs(chunk_contexts(model, batch, current_context(model, batch)), action_rope(model, batch))


def rollout(
    model: AhaWam, batch: LatentBatch, inputs: ChunkInputs, noise_BHA: Tensor, *, steps: int
) -> dict[int, Tensor]:
    """Integrate all chunks from noise and keep every state.

    Args:
        model: teacher or student.
        batch: gives text and joint states.
        inputs: from `chunk_inputs`.
        noise_BHA: states at step 0; not written to.
        steps: Euler steps.

    Returns:
        Step number -> state, float32 [B, H, A]; `steps` is the final one.
    """
    sigmas = sigma_grid(steps, shift_factor=model.config.infer_shift)
    text = chunk_text(model, batch)
    states: dict[int, Tensor] = {}

    def velocity(x: Tensor, i: int) -> Tensor:
        states[i] = x
        t = torch.full((batch.size, batch.chunks), TRAIN_TIMESTEPS * sigmas[i], device=x.device)
        return action_velocity(model, x, t, context=inputs.context, text=text, rope=inputs.rope)

    states[steps] = integrate(velocity, noise_BHA, sigmas=sigmas)
    return states


@torch.no_grad()
def teacher_path(
    teacher: AhaWam, batch: LatentBatch, inputs: ChunkInputs, noise_BHA: Tensor
) -> dict[int, Tensor]:
    """Return the teacher's states at the anchors."""
    states = rollout(teacher, batch, inputs, noise_BHA, steps=TEACHER_STEPS)
    return {step: states[step] for step in ANCHORS}


def student_endpoint(
    student: AhaWam, batch: LatentBatch, inputs: ChunkInputs, path: Mapping[int, Tensor], anchor_BK: Tensor
) -> tuple[Tensor, Tensor]:
    """Predict the end of the path from the anchors drawn.

    Args:
        student: its action expert gets gradient.
        batch: gives text and joint states.
        inputs: from `chunk_inputs`.
        path: from `teacher_path`.
        anchor_BK: index into `STARTS` of each chunk.

    Returns:
        Velocity and predicted final actions, each [B, H, A].
    """
    grid = sigma_grid(TEACHER_STEPS, shift_factor=student.config.infer_shift)
    sigma_BK = torch.tensor([grid[step] for step in STARTS], device=anchor_BK.device)[anchor_BK]
    rows = batch.actions_BHA.shape[1] // batch.chunks
    per_row = anchor_BK.repeat_interleave(rows, dim=1)
    states = torch.stack([path[step] for step in STARTS])
    start = states.gather(0, per_row[None, ..., None].expand(1, -1, -1, states.shape[-1]))[0]
    velocity = action_velocity(
        student,
        start,
        TRAIN_TIMESTEPS * sigma_BK,
        context=inputs.context,
        text=chunk_text(student, batch),
        rope=inputs.rope,
    )
    x0 = predict_x0(start, velocity.float(), sigma_BK.repeat_interleave(rows, dim=1)[..., None])
    return velocity, x0


class DistillObjective(Objective[LatentBatch]):
    """The distance between the student's and the teacher's final actions.

    Args:
        student: model to train; `freeze_for_distillation` is applied to it.
        bias: how often each anchor is drawn.
        per_chunk: an anchor of its own for every chunk, else one per sample.
        predict: samples the rows of a batch; None where their error is not wanted.
    """

    blocks = (DitBlock,)
    first_holds_weights = True

    def __init__(
        self,
        student: AhaWam,
        *,
        bias: AnchorBias = AnchorBias.UNIFORM,
        per_chunk: bool = True,
        predict: Predict | None = None,
    ) -> None:
        super().__init__()
        self._predict = predict
        self.teacher = make_teacher(student)
        self.model = student
        self._bias = bias
        self._per_chunk = per_chunk
        freeze_for_distillation(student)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Total."""
        return DistillLosses._fields

    @property
    def network(self) -> nn.Module:
        """The student."""
        return self.model

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Student and teacher."""
        return (self.model, self.teacher)

    def draw(self, batch: LatentBatch, generator: torch.Generator) -> DistillDraws:
        """Draw start noise and anchors."""
        return draw_distill(batch, generator, bias=self._bias, per_chunk=self._per_chunk)

    def predict(self, batch: LatentBatch, generator: torch.Generator) -> PredictedRows | None:
        """Return the rows of all chunks, in the student's few steps."""
        return None if self._predict is None else self._predict(self.model, batch, generator)

    def forward(self, batch: LatentBatch, draws: DistillDraws) -> DistillLosses:
        """Return the endpoint loss; it has no weight in time."""
        inputs = chunk_inputs(self.teacher, batch)
        path = teacher_path(self.teacher, batch, inputs, draws.noise)
        _, x0 = student_endpoint(self.model, batch, inputs, path, draws.anchor)
        return DistillLosses(endpoint_loss(x0, path[TEACHER_STEPS], batch.action_is_pad_BH))
