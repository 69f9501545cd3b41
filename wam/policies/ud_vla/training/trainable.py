# SPDX-License-Identifier: Apache-2.0
"""The network with its objective, as `wam.training.loop.Trainer` runs it: draw the masks, then one loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.models.emu3.modeling_emu3 import Emu3DecoderLayer

from wam.policies.ud_vla.config import MaskMode
from wam.policies.ud_vla.decoder import UdVlaDecoder
from wam.policies.ud_vla.sequence import SequenceLayout
from wam.policies.ud_vla.training.objective import (
    CleanChunk,
    ObjectiveConfig,
    Sequences,
    TrainingStage,
    collate,
    loss_of,
    masked_chunk,
    video_sequences,
)
from wam.training.objective import Objective


@dataclass(frozen=True, slots=True)
class UdVlaCodes:
    """A batch, its pictures as codes. B samples, F images in order of time, A action sites.

    Attributes:
        texts: int64 [S] of each sample, with BOS.
        codes: int64 [B, F, h, w] of each view.
        actions: int64 [B, A] action blocks; None in stage (i).
    """

    texts: tuple[Tensor, ...]
    codes: tuple[Tensor, ...]
    actions: Tensor | None

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.texts)


class UdVlaDraws(NamedTuple):
    """Random numbers of one forward pass: which sites are masked, and a seed for dropout."""

    sequences: Sequences
    seed: int


class VideoLosses(NamedTuple):
    """Losses of stage (i)."""

    total: Tensor


class Jd3pLosses(NamedTuple):
    """Losses of stage (ii): weighted mean over all masked sites, plain means of both kinds (0 without any)."""

    total: Tensor
    image: Tensor
    action: Tensor


class UdVlaTrainable(Objective[UdVlaCodes]):
    """Decoder and objective.

    Args:
        decoder: every weight of it learns.
        layout: of the sequence.
        stage: what is trained.
        objective: settings of stage (ii).
        dropout: of attention, embedding and each residual branch.
    """

    blocks = (Emu3DecoderLayer,)

    def __init__(
        self,
        decoder: UdVlaDecoder,
        *,
        layout: SequenceLayout,
        stage: TrainingStage,
        objective: ObjectiveConfig,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.decoder = decoder.requires_grad_(True)
        self._layout, self._stage, self._objective = layout, stage, objective
        for module in decoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
            if hasattr(module, "attention_dropout"):
                setattr(module, "attention_dropout", dropout)  # noqa: B010  (a float where nn.Module expects modules)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Those of the stage."""
        return VideoLosses._fields if self._stage is TrainingStage.VIDEO else Jd3pLosses._fields

    @property
    def mask(self) -> MaskMode:
        """Causal in stage (i), the policy's own in stage (ii)."""
        return MaskMode.CAUSAL if self._stage is TrainingStage.VIDEO else self.decoder.config.mask

    def draw(self, batch: UdVlaCodes, generator: torch.Generator) -> UdVlaDraws:
        """Write the sequences of a batch and mask them.

        Args:
            batch: codes and action blocks.
            generator: its seed decides everything, on any device.
        """
        on_cpu = torch.Generator().manual_seed(generator.initial_seed())
        layout, parts = self._layout, []
        for i in range(batch.size):
            codes = [view[i].cpu() for view in batch.codes]
            parts.append(
                [layout.image_block([view[f] for view in codes]) for f in range(len(batch.codes[0][i]))]
            )
        if self._stage is TrainingStage.VIDEO:
            sequences = video_sequences(batch.texts, parts, layout=layout)
        else:
            if batch.actions is None:
                raise ValueError("stage (ii) needs action blocks")
            chunks = [
                CleanChunk(torch.cat((text, now)), future, action)
                for text, (now, future), action in zip(batch.texts, parts, batch.actions.cpu(), strict=True)
            ]
            masked = [
                masked_chunk(chunk, config=self._objective, tokens=layout.tokens, generator=on_cpu)
                for chunk in chunks
            ]
            sequences = collate(masked, layout=layout)
        seed = int(torch.randint(2**31, (1,), generator=on_cpu))
        return UdVlaDraws(sequences.to(self.decoder.device), seed)

    def forward(self, batch: UdVlaCodes, draws: UdVlaDraws) -> VideoLosses | Jd3pLosses:
        """Return the losses; dropout acts only where gradients are wanted."""
        self.decoder.train(torch.is_grad_enabled())
        video = self._stage is TrainingStage.VIDEO
        weight = 1.0 if video else self._objective.visual_weight
        device = self.decoder.device
        # A continued run must drop what an uninterrupted one would have dropped.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(draws.seed)
            loss = loss_of(self.decoder, draws.sequences, mode=self.mask, visual_weight=weight)
        if video:
            return VideoLosses(loss.total)
        return Jd3pLosses(loss.total, loss.image.nan_to_num(0.0), loss.action.nan_to_num(0.0))
