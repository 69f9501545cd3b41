# SPDX-License-Identifier: Apache-2.0
"""What `wam bench decode` times: one decoder, one prompt, and every way to decode behind it.

Needs torch and transformers alone, so that it runs on a machine with a GPU and nothing of this suite installed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from wam.policies.ud_vla import masks
from wam.policies.ud_vla.baselines import Plan, autoregressive, independent, jacobi
from wam.policies.ud_vla.config import RELEASED_GRIDS, MaskMode, UdVlaConfig
from wam.policies.ud_vla.decoder import UdVlaDecoder
from wam.policies.ud_vla.initialise import random_decoder
from wam.policies.ud_vla.jd3p import Cached, Evaluate, Heads, Jd3pSettings, Uncached, decode, prefix_mask
from wam.policies.ud_vla.sampling import RandomDraws
from wam.policies.ud_vla.sequence import SequenceLayout
from wam.policies.ud_vla.text import byte_ids

INSTRUCTION = "push the red block"
TOP_K, TEMPERATURE = 1024, 0.7
"""Of the public autoregressive image generation."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of each method is run; the rest is scaled up.

    Attributes:
        steps: of JD3P that are timed; None takes all.
        sites: of Jacobi and of the public autoregressive function that are timed; None takes all.
        repeats: runs of each method, of which the shortest counts.
    """

    steps: int | None = None
    sites: int | None = None
    repeats: int = 3


class Workload:
    """One decoder with random weights, one prompt.

    Args:
        config: sizes, with the released vocabulary and lengths.
        device: where it runs.
        dtype: of the weights.
        effort: how much is run.
    """

    def __init__(
        self, config: UdVlaConfig, *, device: torch.device, dtype: torch.dtype, effort: Effort
    ) -> None:
        self.decoder: UdVlaDecoder = random_decoder(config, seed=0, device=device, dtype=dtype)
        self.layout = SequenceLayout(config.tokens, RELEASED_GRIDS, config.action_len)
        self.heads = Heads.of(self.decoder, self.layout)
        self.effort = effort
        rng = torch.Generator().manual_seed(0)
        codes = [torch.randint(0, config.tokens.visual_count, grid, generator=rng) for grid in RELEASED_GRIDS]
        self.prefix = self.layout.prefix(byte_ids(INSTRUCTION), codes).to(device)
        self._generator = torch.Generator(device=device).manual_seed(42)

    @property
    def tokens(self) -> int:
        """Generated sites of a chunk."""
        return self.layout.generated_len

    def uncached(self) -> Evaluate:
        """Return the evaluation of prefix and generated part together."""
        return Uncached(self.decoder, self.prefix, layout=self.layout, mode=MaskMode.HYBRID)

    def cached(self) -> Evaluate:
        """Return the evaluation behind a kept prefix; the prefill happens here."""
        with torch.inference_mode():
            mask = prefix_mask(self.layout, self.prefix, self.decoder.dtype)
            kv, _ = self.decoder.prefill(self.prefix[None], mask)
        return Cached(self.decoder, kv, layout=self.layout, mode=MaskMode.HYBRID)

    # Each of the following returns the seconds of a whole chunk.

    def autoregressive(self) -> float:
        """One site after another, keys and values kept, logits of the allowed ids."""
        plan = Plan.of(self.layout)
        return self._time(lambda: autoregressive(self.decoder, self.prefix, plan, self.heads, self._draws()))

    def released_autoregressive(self) -> float:
        """As the public code decodes: the library's `generate`, logits of the whole vocabulary, then a mask."""
        sites = self.effort.sites or self.tokens
        allowed = LogitsProcessorList([_Allowed(self.heads.image.vocabulary)])

        def generate() -> None:
            self.decoder.lm.generate(  # type: ignore[misc]  # the library annotates `self` twice
                self.prefix[None],
                attention_mask=torch.ones_like(self.prefix)[None],
                max_new_tokens=sites,
                do_sample=True,
                top_k=TOP_K,
                temperature=TEMPERATURE,
                use_cache=True,
                logits_processor=allowed,
                pad_token_id=self.layout.tokens.pad,
            )

        return self._time(generate, repeats=1) * self.tokens / sites

    def jacobi(self) -> float:
        """Runs of sites by fixed-point iteration, greedily."""
        plan = Plan.of(self.layout)
        part = plan if self.effort.sites is None else plan.first(self.effort.sites)
        taken = self._time(lambda: jacobi(self.decoder, self.prefix, part, self.heads), repeats=1)
        return taken * self.tokens / len(part.known)

    def independent(self, evaluate: Evaluate, steps: int) -> float:
        """The image in some of the steps, then the action in the others."""
        settings = Jd3pSettings(steps=self.effort.steps or steps)
        taken = self._time(
            lambda: independent(evaluate, self.heads, self._draws(), layout=self.layout, settings=settings)
        )
        return taken * steps / settings.steps

    def jd3p(self, evaluate: Evaluate, steps: int) -> float:
        """Image and action together."""
        settings = Jd3pSettings(steps=self.effort.steps or steps)
        done: list[int] = []

        def once() -> None:
            out = decode(evaluate, self.heads, self._draws(), layout=self.layout, settings=settings)
            done.append(out.evaluations)

        return self._time(once) * steps / statistics.median(done)

    def released_step(self) -> float:
        """One step of the public function's work; see `released_step`."""
        return self._time(lambda: released_step(self, self._generator), repeats=1)

    def _draws(self) -> RandomDraws:
        return RandomDraws(self._generator)

    def _time(self, work: Callable[[], object], *, repeats: int | None = None) -> float:
        """Return the shortest of several runs [s]; other work on the machine only ever adds time."""
        times = []
        for _ in range(repeats or self.effort.repeats):
            self._wait()
            began = time.perf_counter()
            work()
            self._wait()
            times.append(time.perf_counter() - began)
        return min(times)

    def _wait(self) -> None:
        if self.decoder.device.type == "cuda":
            torch.cuda.synchronize(self.decoder.device)


class _Allowed(LogitsProcessor):
    """Shuts every id but some, over the whole vocabulary, as the public code does."""

    def __init__(self, ids: Tensor) -> None:
        self._ids = ids

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        allowed = torch.zeros_like(scores, dtype=torch.bool)
        allowed[:, self._ids] = True
        scores[~allowed] = float("-inf")
        return scores


@torch.inference_mode()
def released_step(work: Workload, generator: torch.Generator) -> Tensor:
    """Do the work of one step of the public function: all rows, the whole vocabulary, noise for every number."""
    layout, decoder = work.layout, work.decoder
    ids = torch.cat((work.prefix, layout.start.to(work.prefix.device)))[None]
    allowed = masks.released(ids, layout.tokens)
    hidden = decoder.hidden(ids, masks.additive(allowed, decoder.dtype))
    logits = decoder.lm.lm_head(hidden).float()[0, -layout.generated_len - 1 : -1]
    for rows, head in (
        (slice(None, layout.image_len), work.heads.image),
        (slice(layout.image_len, None), work.heads.action),
    ):
        shut = torch.full_like(logits[rows], float("-inf"))
        shut[:, head.vocabulary] = 0
        logits[rows] += shut
    drawn: Tensor = torch.multinomial(logits.softmax(-1), 1, generator=generator)
    return drawn
