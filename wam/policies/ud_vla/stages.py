# SPDX-License-Identifier: Apache-2.0
"""Inference as stages that a backend may capture or export.

    stage            when               in -> out
    image_codes      planner refresh    pixels of one view -> codes
    prefix           planner refresh    ids and block numbers of text and images -> K/V of every layer
    generated_pass   every step         ids, block numbers, K/V of the prefix -> rows that predict every site
    whole_pass       every step         ids of everything -> the same, under the mask `released`, which keeps no prefix
    unmask           every step         rows, draws -> the next state; only where the schedule runs on the device

Shapes: P prefix sites, G generated sites, D width, N layers, K key heads, H head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wam.models.backends.plan import BackendPlan
from wam.models.backends.stage import PolicyPart, StageInputs, StageSpec
from wam.policies.ud_vla import masks
from wam.policies.ud_vla.config import MaskMode
from wam.policies.ud_vla.decoder import JoinedPrefix, UdVlaDecoder
from wam.policies.ud_vla.kernel_stages import GeneratedPassByKernels
from wam.policies.ud_vla.sequence import CURRENT, TEXT, SequenceLayout
from wam.policies.ud_vla.vision import ImageTokenizer


def prefix_levels(layout: SequenceLayout, prefix_P: Tensor) -> Tensor:
    """Return the block number of every site of a prefix, int64 [P] on its device."""
    text = len(prefix_P) - layout.image_len
    levels = torch.full((len(prefix_P),), CURRENT, device=prefix_P.device)
    levels[:text] = TEXT
    return levels


class ImageCodesStage(nn.Module):
    """The image tokenizer's encoder."""

    def __init__(self, vision: ImageTokenizer) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the codes, int64 [B, h, w]."""
        return self.vision.codes_of(pixels_B3HW)


class PrefixStage(nn.Module):
    """The decoder over text and images of now."""

    def __init__(self, decoder: UdVlaDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, ids_P: Tensor, levels_P: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each [N, 1, K, P, H]."""
        mask = masks.additive(masks.hybrid(levels_P[None]), self.decoder.dtype)
        kv, _ = self.decoder.prefill(ids_P[None], mask)
        return kv.k, kv.v


class GeneratedPass(nn.Module):
    """The decoder over the generated part, behind a kept prefix."""

    def __init__(self, decoder: UdVlaDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, ids_G: Tensor, levels_G: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the rows [G, D]; row i predicts site i, row 0 is zero."""
        prefix = JoinedPrefix(k, v)
        seen = torch.ones(len(ids_G), prefix.sites, dtype=torch.bool, device=k.device)
        allowed = torch.cat((seen, masks.hybrid(levels_G[None])[0]), dim=1)
        mask = masks.additive(allowed[None], self.decoder.dtype)
        hidden = self.decoder.hidden_after(ids_G[None], prefix, mask)[0]
        return torch.cat((torch.zeros_like(hidden[:1]), hidden[:-1]))


class WholePass(nn.Module):
    """The decoder over prefix and generated part, under the mask `released`.

    Args:
        decoder: weights.
        layout: of the sequence.
    """

    def __init__(self, decoder: UdVlaDecoder, layout: SequenceLayout) -> None:
        super().__init__()
        self.decoder, self._layout = decoder, layout

    def forward(self, prefix_P: Tensor, ids_G: Tensor) -> Tensor:
        """Return the rows [G, D]; row i predicts site i."""
        ids = torch.cat((prefix_P, ids_G))[None]
        mask = masks.additive(masks.released(ids, self._layout.tokens), self.decoder.dtype)
        return self.decoder.hidden(ids, mask)[0, len(prefix_P) - 1 : -1]


class PlannerStages:
    """The stages of the planner's half.

    Args:
        decoder: loaded.
        vision: loaded.
        plan: what runs them.
        layout: of the sequence.
        sizes: rows and columns of the views [px].
        prefix: ids of the policy's own instruction and of some images; other lengths run as they are written.
    """

    def __init__(
        self,
        decoder: UdVlaDecoder,
        vision: ImageTokenizer,
        plan: BackendPlan,
        *,
        layout: SequenceLayout,
        sizes: Sequence[tuple[int, int]],
        prefix: Tensor,
    ) -> None:
        part = PolicyPart.PLANNER
        device = decoder.device

        def pixels() -> list[StageInputs]:
            return [StageInputs.of(torch.zeros(1, 3, *size, device=device)) for size in dict.fromkeys(sizes)]

        def ids() -> list[StageInputs]:
            given = prefix.to(device)
            return [StageInputs.of(given, prefix_levels(layout, given))]

        self.image_codes: Callable[[Tensor], Tensor] = plan.prepare(
            StageSpec("image_codes", part, ImageCodesStage(vision).eval(), pixels, chooses=True)
        )
        self.prefix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
        if decoder.config.mask is not MaskMode.RELEASED:
            self.prefix = plan.prepare(StageSpec("prefix", part, PrefixStage(decoder).eval(), ids))


class StagedPass:
    """Evaluates the generated part of one chunk through its stage; see `jd3p.Evaluate`.

    Args:
        stage: from `pass_stage`.
        fixed: what it takes after or before the ids, the same at every step.
        whole: the stage is `whole_pass`.
    """

    def __init__(self, stage: Callable[..., Tensor], fixed: Sequence[Tensor], *, whole: bool) -> None:
        self._stage, self._fixed, self._whole = stage, tuple(fixed), whole

    def __call__(self, generated_G: Tensor) -> Tensor:
        """Return the rows [G, D]."""
        if self._whole:
            return self._stage(*self._fixed, generated_G)
        return self._stage(generated_G, *self._fixed)


def pass_stage(
    decoder: UdVlaDecoder, plan: BackendPlan, *, layout: SequenceLayout, prefix: Tensor
) -> Callable[..., Any]:
    """Return what runs one pass of the decoder: `generated_pass`, or `whole_pass` under the mask `released`.

    Args:
        decoder: loaded.
        plan: what runs it.
        layout: of the sequence.
        prefix: as for `PlannerStages`.
    """
    config, device = decoder.config, decoder.device

    def whole() -> list[StageInputs]:
        return [StageInputs.of(prefix.to(device), layout.start.to(device))]

    def generated() -> list[StageInputs]:
        sizes = (config.layers, 1, config.kv_heads, len(prefix), config.head_dim)
        k, v = (torch.zeros(sizes, dtype=decoder.dtype, device=device) for _ in range(2))
        return [StageInputs.of(layout.start.to(device), layout.levels.to(device), k, v)]

    part = PolicyPart.EXECUTOR
    if config.mask is MaskMode.RELEASED:
        module = WholePass(decoder, layout).eval()
        return plan.prepare(StageSpec("whole_pass", part, module, whole, immutable=True))
    return plan.prepare(
        StageSpec(
            "generated_pass",
            part,
            GeneratedPass(decoder).eval(),
            generated,
            immutable=True,
            kernels=lambda inputs: GeneratedPassByKernels(decoder, rows=len(inputs.tensors[0])),
        )
    )
