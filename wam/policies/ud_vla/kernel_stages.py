# SPDX-License-Identifier: Apache-2.0
"""UD-VLA's stage `generated_pass` by own kernels: the decoder's layers, seven launches each.

Embedding, rotation tables and the last norm stay as they are written. The layers fit the kernels and are not tuned for
them: 817 rows are bound by arithmetic, where a library's product is likely to be faster.

Shapes: P prefix sites, G generated sites, D width, N layers, K key heads, H head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wam.policies.ud_vla import masks
from wam.policies.ud_vla.decoder import UdVlaDecoder


class GeneratedPassByKernels:
    """The decoder over the generated part, behind a kept prefix; see `stages.GeneratedPass`.

    What reads the same rows is merged, which copies two thirds of the layers' weights.

    Args:
        decoder: loaded.
        rows: G.
    """

    def __init__(self, decoder: UdVlaDecoder, *, rows: int) -> None:
        from wam.models.kernels.gated_layer import GatedLayerWeights

        self._model = decoder.lm.model
        heads, key_heads = decoder.lm.config.num_attention_heads, decoder.lm.config.num_key_value_heads
        self._layers = [
            GatedLayerWeights.of(
                norm=layer.input_layernorm.weight,
                qkv=(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                out=layer.self_attn.o_proj,
                ffn_norm=layer.post_attention_layernorm.weight,
                gate=layer.mlp.gate_proj,
                up=layer.mlp.up_proj,
                down=layer.mlp.down_proj,
                heads=heads,
                key_heads=key_heads or heads,
                eps=layer.input_layernorm.variance_epsilon,
            )
            for layer in self._model.layers
        ]
        self._run = self._layers[0].run(rows)

    def __call__(self, ids_G: Tensor, levels_G: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the rows [G, D]; row i predicts site i, row 0 is zero."""
        from wam.models.kernels.attention import ContextRows
        from wam.models.kernels.gated_layer import gated_layer, halves

        sites, rows = k.shape[3], len(ids_G)
        hidden: Tensor = self._model.embed_tokens(ids_G)
        positions = torch.arange(sites, sites + rows, device=k.device)[None]
        cos, sin = self._model.rotary_emb(hidden[None], position_ids=positions)
        rope = halves(cos[0], sin[0])
        seen = torch.ones(rows, sites, dtype=torch.bool, device=k.device)
        mask = torch.cat((seen, masks.hybrid(levels_G[None])[0]), dim=1)
        for i, layer in enumerate(self._layers):
            prefix = ContextRows(k[i, 0], v[i, 0])
            hidden = gated_layer(layer, hidden, self._run, rope=rope, prefix=prefix, mask=mask)
        hidden = self._model.norm(hidden)
        return torch.cat((torch.zeros_like(hidden[:1]), hidden[:-1]))
