# SPDX-License-Identifier: Apache-2.0
"""All layers of a DiT: one velocity of the action DiT, the N steps of its sampler, and the planner's prefill.

    noisy rows -> encoder + branch -> L layers, eight launches each -> head -> velocity -> Euler step, N times

Shapes: R rows of a chunk, A action values, L layers, S context rows, T text rows, M memory rows, D width,
I attention width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wam.models.kernels.attention import ContextRows
from wam.models.kernels.dit_layer import DitLayerWeights, dit_layer
from wam.models.kernels.run import LayerRun
from wam.models.layers.dit_block import DitBlock
from wam.models.layers.flow import integrate
from wam.models.layers.rope import Rope

LayerRows = tuple[Tensor, Tensor]
"""Keys and values of every layer, each [L, rows, I]."""


class DitKernels:
    """The blocks of one DiT, run by kernels on one sequence (a batch of one).

    Not for two threads at once: all calls share one set of buffers.

    Args:
        blocks: of the DiT, on one device, in one dtype.
        rows: tokens of every call, M.
        columns: widest tile.
        pdl: overlap the start of each kernel with the end of the one ahead
            (`wam.models.kernels.availability.programmatic_launch`).
    """

    def __init__(
        self, blocks: Sequence[DitBlock], *, rows: int, columns: int = 64, pdl: bool = False
    ) -> None:
        self.layers = [DitLayerWeights.of(block) for block in blocks]
        self.buffers: LayerRun = self.layers[0].run(rows, columns=columns, pdl=pdl)

    def __call__(
        self, x_MD: Tensor, *, modulations_L6D: Tensor, rope: Rope, text: LayerRows, context: LayerRows
    ) -> Tensor:
        """Run all layers under a context of every layer: the action DiT.

        Args:
            x_MD: tokens.
            modulations_L6D: scales with their one.
            rope: rotation of the M rows.
            text: cross-attention rows.
            context: rows before the own ones, rotated.

        Returns:
            [M, D], a buffer that the next call overwrites.
        """
        for i, layer in enumerate(self.layers):
            x_MD = dit_layer(
                layer,
                x_MD,
                self.buffers,
                modulation_6D=modulations_L6D[i],
                rope=rope,
                text=ContextRows(text[0][i], text[1][i]),
                context=ContextRows(context[0][i], context[1][i]),
            )
        return x_MD

    def prefill(
        self,
        x_MD: Tensor,
        *,
        modulations_L6D: Tensor,
        rope: Rope,
        text: LayerRows,
        memory: LayerRows | None = None,
        memory_rope: Rope | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run all layers and keep their keys and values: the video DiT on one clean frame.

        Args:
            x_MD: tokens.
            modulations_L6D: scales with their one.
            rope: rotation of the M rows.
            text: cross-attention rows.
            memory: K/V of earlier prefills; the keys are unrotated if `memory_rope` is given.
            memory_rope: rotation of the memory's rows, applied as they are read.
            mask: bool [M or 1, memory + M], True = visible; None shows everything.

        Returns:
            Keys, values and unrotated keys, each [L, M, I].
        """
        _, kept = self.prefill_layers(
            x_MD,
            range(len(self.layers)),
            modulations_L6D=modulations_L6D,
            rope=rope,
            text=text,
            memory=memory,
            memory_rope=memory_rope,
            mask=mask,
        )
        return kept

    def prefill_layers(
        self,
        x_MD: Tensor,
        layers: range,
        *,
        modulations_L6D: Tensor,
        rope: Rope,
        text: LayerRows,
        memory: LayerRows | None = None,
        memory_rope: Rope | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Run some layers of a prefill; arguments as those of `prefill`, of all layers.

        Args:
            x_MD: tokens as they enter the first of the layers.
            layers: which.
            modulations_L6D: scales with their one.
            rope: rotation of the M rows.
            text: cross-attention rows.
            memory: K/V of earlier prefills.
            memory_rope: rotation of the memory's rows.
            mask: what is visible.

        Returns:
            The tokens after the layers, in a buffer that the next call overwrites; and keys, values and unrotated keys,
            each [layers, M, I].
        """
        inner = self.buffers.attended.shape[1]
        k, v, plain = (x_MD.new_empty(len(layers), len(x_MD), inner) for _ in range(3))
        for place, i in enumerate(layers):
            x_MD = dit_layer(
                self.layers[i],
                x_MD,
                self.buffers,
                modulation_6D=modulations_L6D[i],
                rope=rope,
                text=ContextRows(text[0][i], text[1][i]),
                context=None if memory is None else ContextRows(memory[0][i], memory[1][i], memory_rope),
                mask=mask,
                keys_out=(plain[place], k[place]),
            )
            v[place] = self.buffers.qkv[:, 2 * inner :]
        return x_MD, (k, v, plain)


class ActionKernels:
    """An action DiT run by kernels: one velocity, or the N steps of a chunk.

    Args:
        encoder: action values -> D.
        blocks: see `DitKernels`.
        head: D -> action values.
        rows: R of a chunk.
        columns: widest tile.
        pdl: see `DitKernels`.
    """

    def __init__(
        self,
        encoder: nn.Linear,
        blocks: Sequence[DitBlock],
        head: nn.Linear,
        *,
        rows: int,
        columns: int = 64,
        pdl: bool = False,
    ) -> None:
        self.encoder, self.head = encoder, head
        self.kernels = DitKernels(blocks, rows=rows, columns=columns, pdl=pdl)

    def velocity(
        self,
        x_RA: Tensor,
        *,
        modulations_L6D: Tensor,
        branch_D: Tensor,
        context: LayerRows,
        text: LayerRows,
        rope: Rope,
    ) -> Tensor:
        """Return the velocity [R, A] of noisy rows; arguments as those of the action DiT, without a batch."""
        x = self.encoder(x_RA.to(self.head.weight.dtype)) + branch_D
        x = self.kernels(x, modulations_L6D=modulations_L6D, rope=rope, text=text, context=context)
        return F.linear(x, self.head.weight, self.head.bias)

    @torch.no_grad()
    def denoise(
        self,
        noise_RA: Tensor,
        *,
        sigmas: Sequence[float],
        modulations_NL6D: Tensor,
        branch_D: Tensor,
        context: LayerRows,
        text: LayerRows,
        rope: Rope,
    ) -> Tensor:
        """Integrate from noise to actions; the state stays in float32.

        Args:
            noise_RA: standard normal rows, not written.
            sigmas: N + 1 noise levels from 1 to 0.
            modulations_NL6D: of every step.
            branch_D: added to every action token.
            context: routed planner rows.
            text: text rows and the state token.
            rope: rotation of the R rows.

        Returns:
            float32 [R, A], normalised units.
        """

        def step(x: Tensor, i: int) -> Tensor:
            return self.velocity(
                x,
                modulations_L6D=modulations_NL6D[i],
                branch_D=branch_D,
                context=context,
                text=text,
                rope=rope,
            )

        return integrate(step, noise_RA, sigmas=sigmas)
