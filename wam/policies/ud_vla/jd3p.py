# SPDX-License-Identifier: Apache-2.0
"""JD3P decoding: future image and action leave the mask together, the surest sites first (paper section 3.3).

Each of T steps evaluates the whole generated part, draws a token for every unknown site, and keeps some of them.
How many is the rule:

- `released` (public code, the default): after step s of T, floor(G cos(pi/2 s/T)) sites are still masked, and at
  least one site is kept per step. Confidence is log p of the drawn token plus falling Gumbel noise; the result
  is what the last step drew.
- `paper` (Algorithm 1): with M sites masked, step t keeps max(1, floor((1 - rho_t) M)),
  rho_t = cos(pi/2 (T+1-t)/(T+1)); confidence is the largest probability. It is often done before T steps.

Sites after the first kept EOA are frozen: MASK for the decoder, never drawn, and they take no part in the budget
(the public code continues to draw them; `freeze=False` does so too, for comparison with it).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from wam.core.errors import ConfigError
from wam.policies.ud_vla import masks
from wam.policies.ud_vla.config import MaskMode
from wam.policies.ud_vla.decoder import (
    PrefixBuffer,
    PrefixKv,
    RestrictedHead,
    UdVlaDecoder,
    require_cacheable,
)
from wam.policies.ud_vla.sampling import TokenDraws
from wam.policies.ud_vla.sequence import CURRENT, TEXT, SequenceLayout

_WHERE = "the sampler section of policy.yaml"


class UnmaskRule(enum.Enum):
    """How many sites each step keeps, and which."""

    RELEASED = "released"
    PAPER = "paper"


@dataclass(frozen=True, slots=True)
class Jd3pSettings:
    """Settings of the sampler.

    Attributes:
        steps: T; may change from chunk to chunk.
        rule: how many sites each step keeps.
        seed: of the draws.
        temperature: of the confidence noise before the first step.
        freeze: leave sites behind an EOA alone.
    """

    steps: int = 72
    rule: UnmaskRule = UnmaskRule.RELEASED
    seed: int = 42
    temperature: float = 1.0
    freeze: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ConfigError(
                "sampler.steps", value=self.steps, allowed="an integer of 1 or more", where=_WHERE
            )
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ConfigError("sampler.temperature", value=self.temperature, allowed="from 0", where=_WHERE)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for policy.yaml."""
        return {**asdict(self), "rule": self.rule.value}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Jd3pSettings:
        """Read the `sampler` section.

        Raises:
            ConfigError: a key is unknown or a value illegal.
        """
        names = {f.name for f in fields(Jd3pSettings)}
        if unknown := sorted(set(raw) - names):
            raise ConfigError("sampler", value=unknown, allowed=f"{sorted(names)}", where=_WHERE)
        rules = [rule.value for rule in UnmaskRule]
        if raw.get("rule", rules[0]) not in rules:
            raise ConfigError("sampler.rule", value=raw["rule"], allowed=f"one of {rules}", where=_WHERE)
        return Jd3pSettings(**{**raw, "rule": UnmaskRule(raw.get("rule", rules[0]))})


@dataclass(frozen=True, slots=True)
class Decoded:
    """Outcome of one chunk.

    Attributes:
        ids: int64 [G] generated part; MASK only behind an EOA.
        evaluations: passes of the decoder.
    """

    ids: Tensor
    evaluations: int


class Evaluate(Protocol):
    """Runs the decoder on a generated part [G]; row i of the result [G, D] predicts site i.

    Row 0 predicts the first BOI, which is always known; it may hold anything.
    """

    def __call__(self, generated_G: Tensor) -> Tensor:
        """Return the logits at every generated site."""
        ...


Observer = Callable[[int, Tensor, Tensor, Tensor], None]
"""Called after every step with its number, what the decoder was given, what was drawn, and the new state."""


class Uncached:
    """Evaluates prefix and generated part together, under any mask.

    Args:
        decoder: weights.
        prefix_P: ids.
        layout: of the sequence.
        mode: which mask.
    """

    def __init__(
        self, decoder: UdVlaDecoder, prefix_P: Tensor, *, layout: SequenceLayout, mode: MaskMode
    ) -> None:
        self._decoder, self._prefix, self._layout, self._mode = decoder, prefix_P, layout, mode
        self._fixed: Tensor | None = None
        if mode is MaskMode.HYBRID:
            levels = layout.all_levels(len(prefix_P) - layout.image_len).to(prefix_P.device)
            self._fixed = masks.additive(masks.hybrid(levels[None]), decoder.dtype)

    def __call__(self, generated_G: Tensor) -> Tensor:
        """Return the rows [G, D]."""
        ids = torch.cat((self._prefix, generated_G))[None]
        mask = self._fixed
        if mask is None:
            tokens = self._layout.tokens
            rule = masks.released if self._mode is MaskMode.RELEASED else masks.causal
            mask = masks.additive(rule(ids, tokens), self._decoder.dtype)
        hidden = self._decoder.hidden(ids, mask)
        return hidden[0, len(self._prefix) - 1 : -1]


class Cached:
    """Evaluates the generated part only, after a prefix that was evaluated once. Exact under `hybrid`.

    Args:
        decoder: weights.
        prefix: keys and values.
        layout: of the sequence.
        mode: mask that the weights were trained with.

    Raises:
        ConfigError: the mask does not allow it.
    """

    def __init__(
        self, decoder: UdVlaDecoder, prefix: PrefixKv, *, layout: SequenceLayout, mode: MaskMode
    ) -> None:
        require_cacheable(mode)
        self._decoder = decoder
        self._buffer = PrefixBuffer(prefix, room=layout.generated_len)
        device = prefix.k.device
        levels = layout.levels.to(device)
        seen = torch.ones(len(levels), prefix.sites, dtype=torch.bool, device=device)
        allowed = torch.cat((seen, masks.hybrid(levels[None])[0]), dim=1)
        self._mask = masks.additive(allowed[None], decoder.dtype)

    def __call__(self, generated_G: Tensor) -> Tensor:
        """Return the rows [G, D]; row 0 is not computed."""
        hidden = self._decoder.hidden_after(generated_G[None], self._buffer, self._mask)[0]
        return torch.cat((torch.zeros_like(hidden[:1]), hidden[:-1]))


def prefix_mask(layout: SequenceLayout, prefix_P: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the paper's mask of the prefix alone, [1, 1, P, P]."""
    text = len(prefix_P) - layout.image_len
    levels = torch.tensor([TEXT] * text + [CURRENT] * layout.image_len, device=prefix_P.device)
    return masks.additive(masks.hybrid(levels[None]), dtype)


@dataclass(frozen=True, slots=True)
class Heads:
    """Allowed ids of the two kinds of sites.

    Attributes:
        image: of the future image.
        action: of the action.
    """

    image: RestrictedHead
    action: RestrictedHead

    @staticmethod
    def of(decoder: UdVlaDecoder, layout: SequenceLayout) -> Heads:
        """Return the heads of a layout."""
        return Heads(
            RestrictedHead(decoder, layout.image_vocabulary()),
            RestrictedHead(decoder, layout.tokens.action_vocabulary()),
        )


def masked_after(sites: int, *, steps: int) -> list[int]:
    """Return how many sites the released rule wants masked after each step, before its two limits.

    Args:
        sites: G.
        steps: T.
    """
    # Single precision, as released: where the cosine is an integer the last bit decides.
    ratio = torch.tensor([s / steps for s in range(1, steps + 1)], dtype=torch.float32)
    return [int(n) for n in (sites * torch.cos(ratio * math.pi * 0.5)).floor().tolist()]


def kept_by_paper(masked: int, *, step: int, steps: int) -> int:
    """Return how many of `masked` sites the paper's rule keeps in a step counted from 0."""
    if step == steps - 1:
        return masked
    rho = math.cos(math.pi / 2 * (step + 1) / (steps + 1))
    # cos(60 degrees) is a hair above one half in floating point.
    return min(masked, max(1, math.floor((1 - rho) * masked + 1e-9)))


@torch.inference_mode()
def decode(
    evaluate: Evaluate,
    heads: Heads,
    draws: TokenDraws,
    *,
    layout: SequenceLayout,
    settings: Jd3pSettings,
    start_G: Tensor | None = None,
    only_G: Tensor | None = None,
    observe: Observer | None = None,
) -> Decoded:
    """Denoise one chunk.

    Args:
        evaluate: decoder behind a prefix.
        heads: allowed ids.
        draws: randomness.
        layout: of the sequence.
        settings: of the sampler.
        start_G: state before the first step; None takes the prefilled one.
        only_G: bool, the sites to denoise; the others stay as they are. None takes all.
        observe: called after every step.
    """
    mask_id, image_len = layout.tokens.mask, layout.image_len
    device = heads.image.vocabulary.device
    state = (layout.start if start_G is None else start_G).to(device).clone()
    only = torch.ones_like(state, dtype=torch.bool) if only_G is None else only_G.to(device)
    drawn_ids, temperature, evaluations = state, settings.temperature, 0
    for step in range(settings.steps):
        frozen_from = _first_frozen(state, layout)
        given = state.clone()
        given[frozen_from:] = mask_id
        if settings.freeze:
            state = given
        active = (state == mask_id) & only
        if settings.freeze:
            active[frozen_from:] = False
        sites = active.nonzero()[:, 0]
        if not len(sites):
            drawn_ids = state
            break
        rows = evaluate(given)
        evaluations += 1
        drawn_ids, score = state.clone(), torch.zeros(len(state), device=device)
        for image, head in ((True, heads.image), (False, heads.action)):
            for some in head.parts(sites[(sites < image_len) == image]):
                if not len(some):
                    continue
                drawn = draws.tokens(head(rows[some]), step=step, image=image, sites=some)
                drawn_ids[some] = head.vocabulary[drawn.columns]
                paper = settings.rule is UnmaskRule.PAPER
                score[some] = drawn.max_p if paper else drawn.log_p
        if settings.rule is UnmaskRule.PAPER:
            keep = kept_by_paper(len(sites), step=step, steps=settings.steps)
            order = torch.sort(score[sites], descending=True, stable=True).indices
            best = sites[order[:keep]]
            state = state.clone()
            state[best] = drawn_ids[best]
            drawn_ids = state
        else:
            temperature *= 1.0 - (step + 1) / settings.steps
            budget = int(only[: frozen_from if settings.freeze else None].sum())
            wanted = masked_after(budget, steps=settings.steps)[step]
            n_mask = max(1, min(len(sites) - 1, wanted))
            noisy = score[sites] + temperature * draws.gumbel(len(state), step=step).to(device)[sites]
            cut = torch.cat((noisy, noisy.new_tensor([torch.inf]))).sort().values[n_mask]
            state = drawn_ids.clone()
            state[sites[noisy < cut]] = mask_id
        if observe is not None:
            observe(step, given, drawn_ids, state)
    final = drawn_ids.clone()
    if settings.freeze:
        final[_first_frozen(final, layout) :] = mask_id
    return Decoded(final, evaluations)


def _first_frozen(state_G: Tensor, layout: SequenceLayout) -> int:
    """Return the site after the first EOA of the action block; G where there is none."""
    ends = (state_G[layout.image_len :] == layout.tokens.eoa).nonzero()
    return layout.image_len + int(ends[0]) + 1 if len(ends) else len(state_G)
