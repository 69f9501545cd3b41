# SPDX-License-Identifier: Apache-2.0
"""The training loop of UD-VLA's two stages, over batches that somebody else makes."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from wam.core.errors import PolicyFault
from wam.models.ud_vla.config import MaskMode
from wam.models.ud_vla.decoder import UdVlaDecoder
from wam.training.ud_vla_objective import Loss, Sequences, loss_of


class Stage(enum.Enum):
    """What is trained."""

    VIDEO = "video"
    """(i) world model: next image token, causal."""
    JD3P = "jd3p"
    """(ii) masked prediction of image and action together."""


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """Settings of one stage; the defaults are those of the CALVIN run.

    Attributes:
        stage: what is trained.
        steps: updates.
        lr: highest learning rate.
        min_lr: lowest one, at the end.
        warmup: updates until the highest.
        weight_decay: of AdamW.
        betas: of AdamW.
        eps: of AdamW.
        clip: largest norm of the gradient.
        visual_weight: of image codes in stage (ii).
        dropout: of attention and of each residual branch.
    """

    stage: Stage = Stage.JD3P
    steps: int = 24_000
    lr: float = 8e-5
    min_lr: float = 5e-6
    warmup: int = 50
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-6
    clip: float = 5.0
    visual_weight: float = 0.5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup < 0 or not 0 <= self.min_lr <= self.lr:
            raise ValueError(
                f"steps {self.steps}, warmup {self.warmup}, min_lr {self.min_lr}, lr {self.lr} are impossible"
            )


def learning_rate(step: int, config: LoopConfig) -> float:
    """Return the learning rate of an update counted from 0: linear warm-up, then a cosine down to the lowest."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def mask_mode(decoder: UdVlaDecoder, stage: Stage) -> MaskMode:
    """Return the mask of a stage: causal for the world model, the policy's own for masked prediction."""
    return MaskMode.CAUSAL if stage is Stage.VIDEO else decoder.config.mask


def train(
    decoder: UdVlaDecoder,
    batches: Iterable[Sequences],
    *,
    config: LoopConfig,
    on_step: Callable[[int, Loss], None] = lambda _step, _loss: None,
) -> int:
    """Train until `config.steps` updates are done or the batches end.

    Args:
        decoder: its weights are changed.
        batches: on the CPU.
        config: settings.
        on_step: told of every update.

    Returns:
        Updates done.

    Raises:
        PolicyFault: the loss or the gradient is not finite; the weights are those before that update.
    """
    decoder.train().requires_grad_(True)
    _set_dropout(decoder, config.dropout)
    optimiser = torch.optim.AdamW(
        decoder.parameters(),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
    )
    mode, done = mask_mode(decoder, config.stage), 0
    weight = config.visual_weight if config.stage is Stage.JD3P else 1.0
    for step, batch in zip(range(config.steps), batches, strict=False):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config)
        loss = loss_of(decoder, batch.to(decoder.device), mode=mode, visual_weight=weight)
        optimiser.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(decoder.parameters(), config.clip)
        if not bool(torch.isfinite(loss.total.detach())) or not bool(torch.isfinite(norm)):
            raise PolicyFault(
                f"update {step}: the loss is {float(loss.total.detach())} and the gradient's norm {float(norm)}",
                where="the learning rate or the data",
            )
        optimiser.step()
        done = step + 1
        on_step(step, Loss(loss.total.detach(), loss.image.detach(), loss.action.detach()))
    decoder.eval().requires_grad_(False)
    return done


def _set_dropout(decoder: UdVlaDecoder, share: float) -> None:
    for module in decoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = share  # type: ignore[assignment]
