# SPDX-License-Identifier: Apache-2.0
"""Autoregressive decoding without a launch per operation: what JD3P's speed is to be compared with.

The eager baseline starts thousands of kernels for every site, and a GPU waits for them: a ratio to it speaks of
launches, not of the methods. Here a site is one captured graph for image sites or one for action sites. Keys and values
have room for the whole sequence, the place of the site is a number on the device, and what has not been written yet is
masked, so all sites have the same shapes.

Shapes: P prompt sites, G generated sites, N layers, K key heads, H head width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wam.models.backends.cuda_graph import Capture
from wam.policies.ud_vla import masks
from wam.policies.ud_vla.baselines import Plan
from wam.policies.ud_vla.decoder import RestrictedHead, UdVlaDecoder
from wam.policies.ud_vla.jd3p import Decoded, Heads
from wam.policies.ud_vla.sampling import invert


class _WholeBuffer:
    """Keys and values of the whole sequence; one site is written at a time, at a place that the device knows."""

    def __init__(self, shape: tuple[int, ...], place_1: Tensor, *, like: Tensor) -> None:
        self.k, self.v = like.new_zeros(shape), like.new_zeros(shape)
        self._place = place_1

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one site; return all of them."""
        self.k[layer_idx].index_copy_(2, self._place, key)
        self.v[layer_idx].index_copy_(2, self._place, value)
        return self.k[layer_idx], self.v[layer_idx]


class GraphedAutoregression:
    """Generates site after site with two captured graphs.

    Args:
        decoder: weights.
        plan: what is generated.
        heads: allowed ids.
        prompt_sites: P, the same for every call.
        capture: records a run; `wam.models.backends.cuda_graph.cuda_capture()` on a GPU.
    """

    def __init__(
        self, decoder: UdVlaDecoder, plan: Plan, heads: Heads, *, prompt_sites: int, capture: Capture
    ) -> None:
        self._decoder, self._prompt_sites, sites = decoder, prompt_sites, len(plan.known)
        device, config = decoder.device, decoder.config
        self._images = plan.image.tolist()
        self._known, self._mask_id = plan.known.to(device), plan.mask
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._last = torch.zeros(1, dtype=torch.int64, device=device)
        self._uniform = torch.zeros(sites, device=device)
        self._out = torch.zeros(sites, dtype=torch.int64, device=device)
        self._columns = torch.arange(prompt_sites + sites, device=device)
        shape = (config.layers, 1, config.kv_heads, prompt_sites + sites, config.head_dim)
        self._buffer = _WholeBuffer(shape, self._place, like=decoder.lm.lm_head.weight)
        self._replay = {}
        with torch.inference_mode():
            for image, head in ((True, heads.image), (False, heads.action)):
                self._place.fill_(prompt_sites - 1)
                self._replay[image], _ = capture(self._step_of(head))

    def _step_of(self, head: RestrictedHead) -> Callable[[], tuple[Tensor, ...]]:
        def step() -> tuple[Tensor, ...]:
            seen = self._columns <= self._place
            mask = masks.additive(seen[None, None], self._decoder.dtype)
            row = self._decoder.hidden_at(self._last[None], self._place[None], self._buffer, mask)[0]
            site = self._place - (self._prompt_sites - 1)
            drawn = head.vocabulary[invert(head(row), self._uniform.gather(0, site)).columns]
            given = self._known.gather(0, site)
            self._last.copy_(torch.where(given == self._mask_id, drawn, given))
            self._out.index_copy_(0, site, self._last)
            self._place.add_(1)
            return (self._last,)

        return step

    @torch.inference_mode()
    def decode(self, prompt_P: Tensor, uniform_G: Tensor) -> Decoded:
        """Generate everything after a prompt.

        Args:
            prompt_P: int64, ids before the plan.
            uniform_G: float32 in [0, 1), one number per site.

        Raises:
            ValueError: the prompt has another length than was captured.
        """
        if len(prompt_P) != self._prompt_sites:
            raise ValueError(f"the prompt has {len(prompt_P)} sites, {self._prompt_sites} were captured")
        body = prompt_P[None, :-1]
        lower = torch.ones(body.shape[1], body.shape[1], device=body.device).tril().bool()
        kv, _ = self._decoder.prefill(body, masks.additive(lower[None], self._decoder.dtype))
        self._buffer.k[:, :, :, : kv.sites], self._buffer.v[:, :, :, : kv.sites] = kv.k, kv.v
        self._place.fill_(self._prompt_sites - 1)
        self._last.copy_(prompt_P[-1:])
        self._uniform.copy_(uniform_G)
        for image in self._images:
            self._replay[image]()
        return Decoded(self._out.clone(), len(self._images))
