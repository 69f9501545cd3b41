# SPDX-License-Identifier: Apache-2.0
"""Other ways to decode the same sequence with the same weights, for the speed table.

- autoregressive: one site after another, causal mask, keys and values kept;
- Jacobi: a run of sites is guessed and corrected all at once until nothing changes; the result is that of greedy
  autoregressive decoding;
- independent diffusion: the image is denoised first, then the action.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wam.core.errors import ConfigError
from wam.policies.ud_vla import masks
from wam.policies.ud_vla.decoder import PrefixBuffer, UdVlaDecoder
from wam.policies.ud_vla.jd3p import Decoded, Evaluate, Heads, Jd3pSettings, decode
from wam.policies.ud_vla.sampling import TokenDraws
from wam.policies.ud_vla.sequence import SequenceLayout

IMAGE_SHARE = 64 / 92
"""Share of the steps that the published two-stage sampler spends on the image."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is generated after a prompt.

    Attributes:
        known: int64 [S], ids that are given; MASK where a site is to be generated.
        image: bool [S], whether a site takes image ids.
        mask: id of MASK.
    """

    known: Tensor
    image: Tensor
    mask: int

    @staticmethod
    def of(layout: SequenceLayout) -> Plan:
        """Return the plan of a whole generated part."""
        image = torch.arange(layout.generated_len) < layout.image_len
        return Plan(layout.start, image, layout.tokens.mask)

    def first(self, sites: int) -> Plan:
        """Return the plan of the first sites."""
        return replace(self, known=self.known[:sites], image=self.image[:sites])


def _start(decoder: UdVlaDecoder, prompt_P: Tensor, room: int) -> tuple[PrefixBuffer, Tensor]:
    """Return the buffer of all of the prompt but its last id, and that id [1]."""
    body = prompt_P[None, :-1]
    lower = torch.ones(body.shape[1], body.shape[1], device=body.device).tril().bool()
    kv, _ = decoder.prefill(body, masks.additive(lower[None], decoder.dtype))
    return PrefixBuffer(kv, room=room + 1), prompt_P[-1:]


@torch.inference_mode()
def autoregressive(
    decoder: UdVlaDecoder,
    prompt_P: Tensor,
    plan: Plan,
    heads: Heads,
    draws: TokenDraws,
    *,
    stop: int | None = None,
) -> Decoded:
    """Generate site after site.

    Args:
        decoder: weights.
        prompt_P: ids before the plan.
        plan: what is generated.
        heads: allowed ids.
        draws: randomness.
        stop: id after which nothing is generated; None continues to the end.
    """
    buffer, last = _start(decoder, prompt_P, len(plan.known))
    out: list[Tensor] = []
    known = plan.known.tolist()
    for site, given in enumerate(known):
        row = decoder.hidden_after(last[None], buffer, None)[0]
        buffer.keep(1)
        if given == plan.mask:
            image = bool(plan.image[site])
            head = heads.image if image else heads.action
            drawn = draws.tokens(head(row), step=site, image=image, sites=torch.tensor([site]))
            last = head.vocabulary[drawn.columns]
        else:
            last = torch.tensor([given], device=prompt_P.device)
        out.append(last)
        if stop is not None and int(last) == stop:
            break
    return Decoded(torch.cat(out), len(out))


@torch.inference_mode()
def jacobi(decoder: UdVlaDecoder, prompt_P: Tensor, plan: Plan, heads: Heads, *, run: int = 16) -> Decoded:
    """Generate runs of sites by fixed-point iteration, greedily.

    Args:
        decoder: weights.
        prompt_P: ids before the plan.
        plan: what is generated.
        heads: allowed ids.
        run: sites that are iterated together.

    Raises:
        ConfigError: `run` is below 1.
    """
    if run < 1:
        raise ConfigError("the run of Jacobi decoding", value=run, allowed="from 1")
    buffer, last = _start(decoder, prompt_P, len(plan.known))
    out, passes, device = [], 0, prompt_P.device
    known, images = plan.known.to(device), plan.image.to(device)
    for at in range(0, len(known), run):
        given, image = known[at : at + run], images[at : at + run]
        size, free = len(given), given == plan.mask
        seen = torch.ones(size, buffer.sites, dtype=torch.bool, device=device)
        lower = torch.ones(size, size, device=device).tril().bool()
        mask = masks.additive(torch.cat((seen, lower), dim=1)[None], decoder.dtype)
        guess = torch.where(free, heads.action.vocabulary[0], given)
        # One more site is right after every pass, so that the loop ends.
        while True:
            rows = decoder.hidden_after(torch.cat((last, guess[:-1]))[None], buffer, mask)[0]
            passes += 1
            better = guess.clone()
            for head, some in ((heads.image, free & image), (heads.action, free & ~image)):
                if bool(some.any()):
                    better[some] = head.vocabulary[head(rows[some]).argmax(-1)]
            if torch.equal(better, guess):
                break
            guess = better
        buffer.keep(size)
        last = guess[-1:]
        out.append(guess)
    return Decoded(torch.cat(out), passes)


def independent(
    evaluate: Evaluate,
    heads: Heads,
    draws: TokenDraws,
    *,
    layout: SequenceLayout,
    settings: Jd3pSettings,
    start_G: Tensor | None = None,
) -> Decoded:
    """Denoise the image, then the action after it; the steps are shared as in the published sampler.

    Args:
        evaluate: decoder behind a prefix.
        heads: allowed ids.
        draws: randomness.
        layout: of the sequence.
        settings: of the sampler; `steps` counts both stages, at least 2.
        start_G: state before the first step; None takes the prefilled one.

    Raises:
        ConfigError: fewer than two steps.
    """
    if settings.steps < 2:
        raise ConfigError(
            "sampler.steps", value=settings.steps, allowed="from 2 where image and action take turns"
        )
    image_steps = min(settings.steps - 1, max(1, round(settings.steps * IMAGE_SHARE)))
    image = torch.arange(layout.generated_len) < layout.image_len
    first = decode(
        evaluate,
        heads,
        draws,
        layout=layout,
        settings=replace(settings, steps=image_steps),
        start_G=start_G,
        only_G=image,
    )
    second = decode(
        evaluate,
        heads,
        draws,
        layout=layout,
        settings=replace(settings, steps=settings.steps - image_steps),
        start_G=first.ids,
        only_G=~image,
    )
    return Decoded(second.ids, first.evaluations + second.evaluations)
