# SPDX-License-Identifier: Apache-2.0
"""What UD-VLA learns from: stage (i) next image token, stage (ii) masked tokens of one chunk.

Stage (ii): with u uniform, the share cos(pi/2 u), at least 0.1, of the sites is masked; the loss is the
cross-entropy of the masked sites, image codes weighted less. The logits of site r-1 predict site r, as in decoding.

Shapes: B batch, L sites, n sites of one modality.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wam.policies.ud_vla import masks
from wam.policies.ud_vla.config import MaskMode
from wam.policies.ud_vla.decoder import UdVlaDecoder
from wam.policies.ud_vla.sequence import ACTION, CURRENT, FUTURE, PAD, TEXT, SequenceLayout
from wam.policies.ud_vla.tokens import IGNORED, TokenLayout

LEAST_MASKED = 0.1


class TrainingStage(enum.Enum):
    """What is trained."""

    VIDEO = "video"
    """(i) world model: next image token, causal."""
    JD3P = "jd3p"
    """(ii) masked prediction of image and action together."""


class MaskLaw(enum.Enum):
    """How the share of masked sites is drawn."""

    INDEPENDENT = "independent"
    """One share for the image and another for the action, as the public code does."""
    JOINT = "joint"
    """One share for both, as the paper is written."""


@dataclass(frozen=True, slots=True)
class ObjectiveConfig:
    """Settings of stage (ii).

    Attributes:
        law: how the share of masked sites is drawn.
        visual_weight: weight of image codes in the loss; everything else has weight 1.
        protect_marks: never mask BOI, EOI and BOA, which are known when decoding.
    """

    law: MaskLaw = MaskLaw.INDEPENDENT
    visual_weight: float = 0.5
    protect_marks: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.visual_weight) and self.visual_weight > 0):
            raise ValueError(f"visual_weight is {self.visual_weight}, must be positive")


@dataclass(frozen=True, slots=True)
class Sequences:
    """One batch, padded.

    Attributes:
        ids: int64 [B, L], what the decoder is given.
        labels: int64 [B, L], clean id of a site with a loss; `IGNORED` elsewhere.
        levels: int64 [B, L], block of each site.
    """

    ids: Tensor
    labels: Tensor
    levels: Tensor

    def to(self, device: torch.device | str) -> Sequences:
        """Return the batch on a device."""
        return Sequences(self.ids.to(device), self.labels.to(device), self.levels.to(device))


@dataclass(frozen=True, slots=True)
class CleanChunk:
    """One training sample before masking.

    Attributes:
        prefix: int64 [P], BOS, text and current images.
        future: int64 [I], the image blocks one chunk later.
        action: int64 [A], BOA, tokens, EOA, and MASK as padding.
    """

    prefix: Tensor
    future: Tensor
    action: Tensor


def masked_share(u: float) -> float:
    """Return the share of sites to mask for u in [0, 1)."""
    return max(LEAST_MASKED, math.cos(math.pi / 2 * u))


def choose(clean_n: Tensor, *, share: float, noise_n: Tensor, tokens: TokenLayout, protect: bool) -> Tensor:
    """Return which sites of one modality are masked, bool [n].

    Marks are taken out after the choice, so that fewer than the share may be masked.

    Args:
        clean_n: ids without padding.
        share: of the sites.
        noise_n: uniform numbers, whose order decides.
        tokens: ids.
        protect: leave BOI, EOI and BOA alone.
    """
    count = max(1, round(len(clean_n) * share))
    chosen = noise_n.argsort() < count
    if protect:
        marks = torch.tensor([tokens.boi, tokens.eoi, tokens.boa], device=clean_n.device)
        chosen = chosen & ~torch.isin(clean_n, marks)
    return chosen


def masked_chunk(
    chunk: CleanChunk,
    *,
    config: ObjectiveConfig,
    tokens: TokenLayout,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the ids and labels of one sample, unpadded [L].

    Args:
        chunk: clean.
        config: settings.
        tokens: ids.
        generator: of the draws, on the CPU; None takes torch's own.
    """
    ends = (chunk.action == tokens.eoa).nonzero()
    valid = int(ends[0]) + 1 if len(ends) else len(chunk.action)
    chosen, share = [], None
    for clean in (chunk.future, chunk.action[:valid]):
        u = float(torch.rand(1, generator=generator))
        if share is None or config.law is MaskLaw.INDEPENDENT:
            share = masked_share(u)
        noise = torch.rand(len(clean), generator=generator)
        chosen.append(choose(clean, share=share, noise_n=noise, tokens=tokens, protect=config.protect_marks))
    padding = torch.zeros(len(chunk.action) - valid, dtype=torch.bool)
    return apply_mask(chunk, torch.cat((*chosen, padding)), tokens)


def apply_mask(chunk: CleanChunk, masked_G: Tensor, tokens: TokenLayout) -> tuple[Tensor, Tensor]:
    """Return ids and labels of a sample whose masked sites are known.

    Args:
        chunk: clean.
        masked_G: bool, which sites of the generated part are masked.
        tokens: ids.
    """
    generated = torch.cat((chunk.future, chunk.action))
    ids = torch.cat((chunk.prefix, torch.where(masked_G, tokens.mask, generated)))
    labels = torch.full_like(ids, IGNORED)
    labels[len(chunk.prefix) :] = torch.where(masked_G, generated, IGNORED)
    return ids, labels


def collate(
    samples: Sequence[tuple[Tensor, Tensor]], *, layout: SequenceLayout, pad_to: int | None = None
) -> Sequences:
    """Stack the samples of stage (ii).

    Args:
        samples: ids and labels, each one of any text length.
        layout: of the sequence.
        pad_to: L; None takes the longest.

    Raises:
        ValueError: a sample is longer than `pad_to`.
    """
    longest = max(len(ids) for ids, _ in samples)
    size = longest if pad_to is None else pad_to
    if size < longest:
        raise ValueError(f"a sample of {longest} sites does not fit {size}")
    shape = (len(samples), size)
    ids = torch.full(shape, layout.tokens.pad)
    labels, levels = torch.full(shape, IGNORED), torch.full(shape, PAD)
    for i, (one, label) in enumerate(samples):
        text = len(one) - layout.image_len - layout.generated_len
        ids[i, : len(one)], labels[i, : len(one)] = one, label
        levels[i, : len(one)] = layout.all_levels(text)
    return Sequences(ids, labels, levels)


def video_sequences(
    texts: Sequence[Tensor], frames: Sequence[Sequence[Tensor]], *, layout: SequenceLayout
) -> Sequences:
    """Return a batch of stage (i): text, then the image blocks of a video, every image token predicted.

    Args:
        texts: BOS and text ids, per sample.
        frames: image blocks [I] in order of time, per sample.
        layout: of the sequence.
    """
    rows = [torch.cat((text, *blocks)) for text, blocks in zip(texts, frames, strict=True)]
    shape = (len(rows), max(len(row) for row in rows))
    ids = torch.full(shape, layout.tokens.pad)
    labels, levels = torch.full(shape, IGNORED), torch.full(shape, PAD)
    for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
        ids[i, : len(row)] = row
        labels[i, len(text) : len(row)] = row[len(text) :]
        levels[i, : len(text)], levels[i, len(text) : len(row)] = TEXT, CURRENT
    return Sequences(ids, labels, levels)


def mask_of(batch: Sequences, *, mode: MaskMode, tokens: TokenLayout, dtype: torch.dtype) -> Tensor:
    """Return the additive mask of a batch [B, 1, L, L]."""
    if mode is MaskMode.HYBRID:
        return masks.additive(masks.hybrid(batch.levels), dtype)
    rule = masks.released if mode is MaskMode.RELEASED else masks.causal
    return masks.additive(rule(batch.ids, tokens), dtype)


@dataclass(frozen=True, slots=True)
class Loss:
    """Outcome of one batch.

    Attributes:
        total: weighted mean over all sites with a loss, of the whole batch.
        image: plain mean over image sites; NaN where there are none.
        action: plain mean over action sites.
    """

    total: Tensor
    image: Tensor
    action: Tensor


def loss_of(decoder: UdVlaDecoder, batch: Sequences, *, mode: MaskMode, visual_weight: float) -> Loss:
    """Return the loss of a batch; the output matrix sees only rows that have one.

    Args:
        decoder: being trained.
        batch: ids, labels, blocks.
        mode: which mask.
        visual_weight: of image codes.
    """
    tokens = decoder.config.tokens
    hidden = decoder.hidden(batch.ids, mask_of(batch, mode=mode, tokens=tokens, dtype=decoder.dtype))
    where = batch.labels[:, 1:] != IGNORED
    target, level = batch.labels[:, 1:][where], batch.levels[:, 1:][where]
    logits = decoder.lm.lm_head(hidden[:, :-1][where]).float()
    nll = F.cross_entropy(logits, target, reduction="none")
    visual = (target >= tokens.visual_start) & (target < tokens.visual_start + tokens.visual_count)
    weight = torch.where(visual, visual_weight, 1.0)
    image = nll[(level == FUTURE) | (level == CURRENT)].mean()
    return Loss((weight * nll).sum() / weight.sum(), image, nll[level == ACTION].mean())
