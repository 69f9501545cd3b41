# SPDX-License-Identifier: Apache-2.0
"""AHA-WAM's stages by own kernels: `denoise` and `planner_prefill`, whose layers are `DitBlock`s.

    denoise          N steps: encoder -> 30 layers, eight launches each -> head
    planner_prefill  patches -> 30 layers, eleven launches each; keys and values of each

Weights are merged for the kernels when a backend first asks for them; nothing here imports triton before.

Shapes: R rows of a chunk, S planner tokens, M memory tokens, L layers, N steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from wam.models.backends.stage import EulerLoop, StageInputs, StageSlices
from wam.models.layers.dit_block import DitBlock
from wam.models.layers.module_list import members
from wam.models.layers.rope import Rope
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.stages import PrefillStage, prefill_slices
from wam.policies.aha_wam.video_dit import LayerKv, VideoDit, VideoKv

if TYPE_CHECKING:
    from wam.models.kernels.dit_stack import ActionKernels, DitKernels, LayerRows


class StepByKernels(nn.Module):
    """`stages.StepStage` by kernels.

    Args:
        model: with its executor half.
        rows: R.
    """

    def __init__(self, model: AhaWam, *, rows: int) -> None:
        from wam.models.kernels.dit_stack import ActionKernels

        super().__init__()
        if model.action is None:
            raise ValueError("this model was built without its executor half")
        action = model.action
        blocks = members(action.blocks, DitBlock)
        self._kernels: ActionKernels = ActionKernels(action.action_encoder, blocks, action.head, rows=rows)
        self._model = model

    def forward(
        self, x_BRA: Tensor, modulations: Tensor, context: LayerKv, text: LayerKv, rope: Rope
    ) -> Tensor:
        """Predict the velocity of the noisy rows; a batch of one."""
        velocity = self._kernels.velocity(
            _only(x_BRA),
            modulations_L6D=modulations,
            branch_D=self._model.branch(),
            context=_rows(context),
            text=_rows(text),
            rope=rope,
        )
        return velocity[None]


class DenoiseKernels:
    """Makes `denoise` by kernels; see `wam.models.backends.stage.KernelStage`.

    Args:
        model: with its executor half.
        sigmas: noise levels, one more than there are steps.
    """

    def __init__(self, model: AhaWam, sigmas: Sequence[float]) -> None:
        self._model, self._sigmas = model, tuple(sigmas)
        self._steps: dict[int, StepByKernels] = {}

    def __call__(self, inputs: StageInputs) -> Callable[..., Any]:
        """Return the loop over all steps."""
        rows = inputs.tensors[0].shape[1]
        if rows not in self._steps:
            self._steps[rows] = StepByKernels(self._model, rows=rows)
        return EulerLoop(self._steps[rows], self._sigmas)


class VideoByKernels:
    """The video DiT of a prefill, its layers by kernels; see `stages.PrefillNetwork`.

    Args:
        video: the network.
        rows: S.
    """

    def __init__(self, video: VideoDit, *, rows: int) -> None:
        from wam.models.kernels.dit_stack import DitKernels

        self.blocks = video.blocks
        self.tokens = video.tokens
        self._kernels: DitKernels = DitKernels(members(video.blocks, DitBlock), rows=rows)

    def prefill_layers(
        self,
        x_BND: Tensor,
        layers: range,
        *,
        text: LayerKv,
        modulations_L6D: Tensor,
        rope: Rope,
        memory: LayerKv | None = None,
        memory_rope: Rope | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, VideoKv]:
        """Run some layers; a batch of one, without a mask."""
        assert mask is None, "the stage has no mask"
        x, kept = self._kernels.prefill_layers(
            _only(x_BND).contiguous(),
            layers,
            modulations_L6D=modulations_L6D,
            rope=rope,
            text=_rows(text),
            memory=None if memory is None else _rows(memory),
            memory_rope=memory_rope,
        )
        return x[None], VideoKv(*(rows[:, None] for rows in kept))


class PrefillByKernels:
    """`planner_prefill` by kernels, whole and in slices.

    Args:
        video: by kernels.
        slices: of the stage as it is written, which has as many.
    """

    def __init__(self, video: VideoByKernels, slices: StageSlices) -> None:
        self._whole = PrefillStage(video)
        self.slices = StageSlices(prefill_slices(video, count=len(slices.modules)), slices.turns)

    def __call__(self, *args: Any, **kwargs: Any) -> VideoKv:
        """Run the whole prefill."""
        out: VideoKv = self._whole(*args, **kwargs)
        return out


class PrefillKernels:
    """Makes `planner_prefill` by kernels; see `wam.models.backends.stage.KernelStage`.

    All lengths of the memory share one set of merged weights and buffers.

    Args:
        video: the network.
        slices: of the stage as it is written.
    """

    def __init__(self, video: VideoDit, *, slices: StageSlices) -> None:
        self._video, self._slices = video, slices
        self._made: PrefillByKernels | None = None

    def __call__(self, inputs: StageInputs) -> Callable[..., Any]:
        """Return the prefill."""
        if self._made is None:
            (z, *_), _ = inputs.arguments()
            rows = self._video.tokens(z).shape[1]
            self._made = PrefillByKernels(VideoByKernels(self._video, rows=rows), self._slices)
        return self._made


def _only(x: Tensor) -> Tensor:
    """Return the one entry of a batch.

    Raises:
        ValueError: there are more.
    """
    if len(x) != 1:
        raise ValueError(f"the kernels take a batch of one, this one has {len(x)}")
    return x[0]


def _rows(kv: LayerKv) -> LayerRows:
    """Return keys and values of every layer without their batch."""
    return kv.k[:, 0], kv.v[:, 0]
