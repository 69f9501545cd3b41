# SPDX-License-Identifier: Apache-2.0
"""The decoder: transformers' Emu3 with our masks, a kept prefix, and a head for the allowed ids only.

The logits of row r-1 say what stands at site r ("shift"), so the G generated sites are predicted by the rows
P-1 .. P+G-2. Row P-1 belongs to the prefix; it predicts only the first BOI, which is known.

Shapes: B batch, L sites, P prefix, G generated, D width, N layers, K key/value heads, H head width, V ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache, Emu3ForCausalLM

from wam.core.errors import ConfigError
from wam.policies.ud_vla.config import MaskMode, UdVlaConfig

ATTENTION = "sdpa"
CACHED_BYTES = 2 << 20
"""Logits that are made and drawn from at a time on a processor [bytes]: what a second-level cache holds."""


@dataclass(frozen=True, slots=True)
class PrefixKv:
    """Keys and values of text and current images.

    Attributes:
        k: [N, 1, K, P, H] keys, rotated.
        v: [N, 1, K, P, H] values.
    """

    k: Tensor
    v: Tensor

    @property
    def sites(self) -> int:
        """P."""
        return int(self.k.shape[3])


class PrefixBuffer:
    """A kept prefix with room after it, one buffer per layer; what follows the prefix is overwritten each time.

    It stands where the library expects a cache; `update` is all that the decoder layers call.

    Args:
        prefix: of one sequence.
        room: sites behind it.
    """

    def __init__(self, prefix: PrefixKv, *, room: int) -> None:
        layers, batch, heads, sites, width = prefix.k.shape
        self.sites = sites
        shape = (layers, batch, heads, sites + room, width)
        self._k, self._v = prefix.k.new_empty(shape), prefix.v.new_empty(shape)
        self._k[:, :, :, :sites], self._v[:, :, :, :sites] = prefix.k, prefix.v

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write keys and values after the prefix; return those of all sites up to them."""
        end = self.sites + key.shape[2]
        self._k[layer_idx][:, :, self.sites : end] = key
        self._v[layer_idx][:, :, self.sites : end] = value
        return self._k[layer_idx][:, :, :end], self._v[layer_idx][:, :, :end]

    def keep(self, sites: int) -> None:
        """Extend the prefix by the first `sites` sites after it."""
        self.sites += sites


class JoinedPrefix:
    """A kept prefix that is never written: what follows it is joined to it anew at every pass.

    Like `PrefixBuffer` it stands where the library expects a cache. A pass then depends on its arguments alone, as a
    stage must; the copies are less than a hundredth of a pass.

    Args:
        k: [N, 1, K, P, H] keys, rotated.
        v: [N, 1, K, P, H] values.
    """

    def __init__(self, k: Tensor, v: Tensor) -> None:
        self._k, self._v = k, v

    @property
    def sites(self) -> int:
        """P."""
        return int(self._k.shape[3])

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values of the prefix and of what follows it."""
        return torch.cat((self._k[layer_idx], key), dim=2), torch.cat((self._v[layer_idx], value), dim=2)


class Keeps(Protocol):
    """Stands where the library expects a cache."""

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values of all sites, for one layer."""
        ...


class PrefixSites(Keeps, Protocol):
    """What `UdVlaDecoder.hidden_after` runs behind."""

    @property
    def sites(self) -> int:
        """Sites ahead of those that are evaluated."""
        ...


def require_cacheable(mode: MaskMode) -> None:
    """Refuse to keep the prefix under a mask where it depends on what is generated.

    Raises:
        ConfigError: the mask is `released`.
    """
    if mode is MaskMode.RELEASED:
        raise ConfigError(
            "the keys and values of the prefix cannot be kept under the mask 'released': the prefix sees the "
            "generated sites, and kept logits differ by up to 16",
            value=mode.value,
            allowed="'hybrid', or decoding without a kept prefix",
            where="model.mask in policy.yaml",
        )


class UdVlaDecoder(nn.Module):
    """Emu3 decoder.

    Args:
        config: sizes.
    """

    def __init__(self, config: UdVlaConfig) -> None:
        super().__init__()
        self.config = config
        library = config.library()
        library._attn_implementation = ATTENTION
        self.lm = Emu3ForCausalLM(library)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.lm.lm_head.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        dtype: torch.dtype = self.lm.lm_head.weight.dtype
        return dtype

    def restore_buffers(self, device: torch.device | str) -> None:
        """Compute the rotary frequencies again; they are not part of the weights and stay on meta otherwise."""
        rope = self.lm.model.rotary_emb
        inverse, _ = rope.compute_default_rope_parameters(rope.config)
        rope.inv_freq = inverse.to(device)
        rope.original_inv_freq = inverse.clone().to(device)

    def hidden(self, ids_BL: Tensor, mask_B1LL: Tensor) -> Tensor:
        """Return the last hidden state [B, L, D], normalised.

        Args:
            ids_BL: sequence.
            mask_B1LL: additive, see `wam.policies.ud_vla.masks.additive`.
        """
        out = self.lm.model(input_ids=ids_BL, attention_mask=_added(mask_B1LL, self.dtype), use_cache=False)
        hidden: Tensor = out.last_hidden_state
        return hidden

    def prefill(self, ids_1P: Tensor, mask_11PP: Tensor) -> tuple[PrefixKv, Tensor]:
        """Return the keys and values of a prefix, and its last hidden state [1, P, D]."""
        cache = DynamicCache(config=self.lm.config)
        out = self.lm.model(
            input_ids=ids_1P,
            attention_mask=_added(mask_11PP, self.dtype),
            past_key_values=cache,
            use_cache=True,
        )
        layers: list[Any] = list(cache.layers)
        k = torch.stack([layer.keys for layer in layers])
        v = torch.stack([layer.values for layer in layers])
        return PrefixKv(k, v), out.last_hidden_state

    def hidden_after(self, ids_1G: Tensor, buffer: PrefixSites, mask_11GL: Tensor | None) -> Tensor:
        """Return the last hidden state of the generated sites [1, G, D].

        Args:
            ids_1G: generated part.
            buffer: holds the prefix.
            mask_11GL: additive, over prefix and generated sites; None shows everything.
        """
        positions = torch.arange(buffer.sites, buffer.sites + ids_1G.shape[1], device=ids_1G.device)[None]
        return self.hidden_at(ids_1G, positions, buffer, mask_11GL)

    def hidden_at(
        self, ids_1G: Tensor, positions_1G: Tensor, kept: Keeps, mask_11GL: Tensor | None
    ) -> Tensor:
        """Return the last hidden state of sites at given positions [1, G, D].

        Args:
            ids_1G: of the sites.
            positions_1G: int64, their places in the sequence.
            kept: takes their keys and values, and gives those that they may attend to.
            mask_11GL: additive, over what `kept` gives; None shows everything.
        """
        model = self.lm.model
        hidden = model.embed_tokens(ids_1G)
        rope = model.rotary_emb(hidden, position_ids=positions_1G)
        for layer in model.layers:
            hidden = layer(
                hidden,
                attention_mask=mask_11GL,
                position_embeddings=rope,
                past_key_values=kept,
                use_cache=True,
                is_causal=False,
            )
        out: Tensor = model.norm(hidden)
        return out


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask in the precision of the scores that it is added to.

    Raises:
        TypeError: it is boolean; as numbers it would raise scores by one instead of shutting them out.
    """
    if mask.dtype == torch.bool:
        raise TypeError("an attention mask must be additive (0 or minus infinity), see masks.additive")
    return mask.to(dtype)


class RestrictedHead:
    """The rows of the output matrix that some sites may take.

    Args:
        decoder: owns the matrix; the rows are copied once.
        vocabulary: ids, in the order of the columns.
    """

    def __init__(self, decoder: UdVlaDecoder, vocabulary: Tensor) -> None:
        self.vocabulary = vocabulary.to(decoder.device)
        self._weight_VD = decoder.lm.lm_head.weight.detach()[self.vocabulary]

    def __call__(self, hidden_RD: Tensor) -> Tensor:
        """Return float32 logits [R, V] of the allowed ids."""
        logits: Tensor = hidden_RD @ self._weight_VD.T
        return logits.float()

    def parts(self, sites_R: Tensor) -> tuple[Tensor, ...]:
        """Split sites so that the logits of a part stay in a processor's cache; a GPU takes all at once.

        A part has at least D / 2 rows, or reading the weights again for every part would cost more.
        """
        if sites_R.device.type != "cpu":
            return (sites_R,)
        rows = max(CACHED_BYTES // (4 * len(self.vocabulary)), self._weight_VD.shape[1] // 2, 1)
        return torch.split(sites_R, rows)
