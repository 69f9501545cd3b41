# SPDX-License-Identifier: Apache-2.0
"""AHA-WAM's planner: image and text in, planner context out."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor

from wam.core.context import PlannerContext
from wam.core.contract import PolicyContract
from wam.core.errors import StaleObservation
from wam.core.observation import Instruction, Observation
from wam.core.policy import Features
from wam.models.backends.plan import BackendPlan, eager_plan
from wam.models.backends.stage import PolicyPart, StageInputs, StagePadding, StageSlices, StageSpec
from wam.models.backends.turns import turns_of
from wam.models.finite import all_finite, require_finite, require_finite_layers
from wam.models.layers.dit_block import REGIONS
from wam.models.layers.rope import Rope, rope_3d
from wam.models.normalisation import Normaliser
from wam.models.text import TextEncoder
from wam.policies.aha_wam import stages
from wam.policies.aha_wam.context import AhaContext
from wam.policies.aha_wam.imagination import Decode, ExpectedVideo, PlannedFrom, perceived
from wam.policies.aha_wam.kernel_stages import PrefillKernels
from wam.policies.aha_wam.memory import MemoryEntry, MemoryView, RollingMemory
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.video_dit import LayerKv, VideoKv
from wam.policies.aha_wam.vision import VisualEncoder
from wam.policies.results import context_header

KEPT_INSTRUCTIONS = 8
KEPT_ROTATIONS = 32
PREFILL_SLICES = 8
"""Parts of a captured prefill, between which a chunk goes first."""


class AhaPlanner:
    """Video DiT with rolling memory. One worker thread calls it.

    Args:
        model: with its planner half.
        contract: of the bundle.
        vision: shared with the executor.
        text: embeds instructions.
        template: text for the encoder; "{task}" is replaced by the instruction.
        state_norm: of the proprioception, read only where the planner sees it (Fast-WAM).
        plan: what runs the stages.
        decoder: makes the decoder of latents when a future is asked for first; None where the bundle has none.
    """

    def __init__(
        self,
        model: AhaWam,
        *,
        contract: PolicyContract,
        vision: VisualEncoder,
        text: TextEncoder,
        template: str,
        state_norm: Normaliser,
        plan: BackendPlan | None = None,
        decoder: Callable[[], Decode] | None = None,
    ) -> None:
        if model.video is None:
            raise ValueError("this model was built without its planner half")
        self._model = model
        self._video = model.video
        self._config = model.config
        self._contract = contract
        self._vision = vision
        self._text = text
        self._template = template
        self._state_norm = state_norm
        self._memory = RollingMemory(
            window=self._config.memory_window,
            spacing_rows=self._config.memory_spacing_rows,
            stride=self._config.temporal_stride,
            period_ns=contract.control_period_ns,
        )
        self._prompts: dict[str, tuple[Tensor, LayerKv]] = {}
        self._clean: Tensor | None = None
        self._turns: dict[tuple[int, ...], tuple[Rope, Rope | None]] = {}
        self._generation = 0
        self._version = 0
        self._last_stamp_ns: int | None = None
        self._make_decoder = decoder
        self._decode: Decode | None = None
        self._seen: PlannedFrom | None = None
        prepare, part = (plan or eager_plan()).prepare, PolicyPart.PLANNER
        slices = StageSlices(stages.prefill_slices(model.video, count=PREFILL_SLICES), turns_of(model.device))
        self._text_context = prepare(
            StageSpec("planner_text_context", part, stages.TextStage(model.video), self._text_examples)
        )
        self._prefill = prepare(
            StageSpec(
                "planner_prefill",
                part,
                stages.PrefillStage(model.video),
                self._prefill_examples,
                slices=slices,
                kernels=PrefillKernels(model.video, slices=slices),
                padding=StagePadding(
                    stages.PaddedPrefillStage(model.video),
                    functools.partial(
                        stages.padded_prefill, rows=self._config.memory_window * self._config.frame_tokens
                    ),
                ),
                regions=REGIONS,
            )
        )

    @property
    def model(self) -> AhaWam:
        """The networks of the planner's half."""
        return self._model

    @property
    def memory(self) -> RollingMemory:
        """The rolling memory; only the planner's worker thread may touch it."""
        return self._memory

    @property
    def vision(self) -> VisualEncoder:
        """The visual encoder, shared with the executor of the same process."""
        return self._vision

    def _zeros(self, *sizes: int) -> Tensor:
        return torch.zeros(*sizes, device=self._model.device, dtype=self._model.dtype)

    def _text_examples(self) -> list[StageInputs]:
        """Return an instruction, and the row of a state where the planner sees one."""
        lengths = (self._config.context_len, *((1,) if self._config.proprio_in_planner else ()))
        return [StageInputs.of(self._zeros(1, length, self._config.text_dim)) for length in lengths]

    def _prefill_examples(self) -> list[StageInputs]:
        """Return a prefill at every length of the memory."""
        c, video = self._config, self._config.video
        latent = self._zeros(1, c.latent_channels, 1, c.latent_rows, c.latent_columns)
        rows = c.context_len + int(c.proprio_in_planner)
        text = LayerKv(*(self._zeros(video.layers, 1, rows, video.inner) for _ in range(2)))
        kept = MemoryEntry(0, *(self._zeros(video.layers, 1, c.frame_tokens, video.inner) for _ in range(2)))
        return [
            self._inputs(latent, text, MemoryView((kept,) * count, (0,) * count, 0))
            for count in range(c.memory_window + 1)
        ]

    def _inputs(self, latent: Tensor, text: LayerKv, view: MemoryView) -> StageInputs:
        own, past = self._rotations(view)
        return StageInputs.of(latent, text, self._modulations(), own, view.stacked(), past)

    def _run(self, latent: Tensor, text: LayerKv, view: MemoryView) -> VideoKv:
        own, past = self._rotations(view)
        out: VideoKv = self._prefill(latent, text, self._modulations(), own, view.stacked(), past)
        return out

    def reset(self) -> None:
        """Forget the rolling memory and the version count."""
        self._memory.clear()
        self._version = 0
        self._last_stamp_ns = None
        self._seen = None

    def foresee(self) -> ExpectedVideo | None:
        """Return what the video DiT expects after the last plan; see `wam.core.policy.Foreseeing`.

        None where the bundle has a VAE without its decoder.
        """
        if self._seen is None or self._make_decoder is None:
            return None
        if self._decode is None:
            self._decode = self._make_decoder()
        return ExpectedVideo(
            self._video,
            self._config,
            self._seen,
            layout=self._vision.layout,
            decode=self._decode,
            period_ns=self._contract.control_period_ns,
        )

    def perceive(self, observation: Observation) -> Features:
        """Return the picture that the networks see; see `wam.core.policy.Perceiving`.

        Raises:
            ImageError: a camera is missing.
        """
        return perceived(observation, self._vision.layout)

    @torch.inference_mode()
    def plan(self, observation: Observation, *, instruction: Instruction) -> PlannerContext[AhaContext]:
        """Run one prefill.

        Raises:
            StaleObservation: the image is older than the one before it (a clock that jumped back needs a reset).
            ImageError: a camera is missing.
            InputError: the instruction is too long or unknown to the text encoder.
            PolicyFault: a key or value is not finite; the text names the layer.
        """
        started_ns = time.perf_counter_ns()
        if instruction.generation != self._generation:
            self.reset()
            self._generation = instruction.generation
        stamp_ns = observation.stamp_ns
        if self._last_stamp_ns is not None and stamp_ns < self._last_stamp_ns:
            raise StaleObservation(
                f"the image is {(self._last_stamp_ns - stamp_ns) / 1e6:.1f} ms older than the planner's last one",
                allowed="images in order of their stamps",
                where="the clock of the recording or simulation; reset the planner when it starts again",
            )
        latent = self._vision.latent(observation)
        rows, text = self._instruction(instruction.text, observation)
        view = self._memory.view(stamp_ns)
        kv = self._run(latent, text, view)
        # Every layer is checked: fused attention may turn a row of NaN keys into zeros and so hide them.
        if not all_finite(kv.k, kv.v):
            require_finite_layers(kv.k, what="planner key")
            require_finite_layers(kv.v, what="planner value")
        self._memory.admit(MemoryEntry(stamp_ns, kv.k_unrotated, kv.v))
        self._last_stamp_ns = stamp_ns
        self._version += 1
        header = context_header(
            self._contract,
            stamp_ns=stamp_ns,
            instruction=instruction,
            version=self._version,
            started_ns=started_ns,
        )
        self._seen = PlannedFrom(header, latent, text, view)
        return PlannerContext(header, AhaContext(kv.k, kv.v, rows))

    def _modulations(self) -> Tensor:
        if self._clean is None:
            self._clean = self._video.clean_modulations()
        return self._clean

    def _instruction(self, task: str, observation: Observation) -> tuple[Tensor, LayerKv]:
        """Return the text rows for the executor and the planner's own cross-attention K/V."""
        known = self._prompts.get(task)
        if known is None:
            rows = self._text.embed(self._template.replace("{task}", task))
            rows = rows.to(device=self._model.device, dtype=self._model.dtype)
            require_finite(rows, what=f"embedding of the instruction {task!r}")
            known = (rows, self._text_context(rows[None]))
            while len(self._prompts) >= KEPT_INSTRUCTIONS:
                self._prompts.pop(next(iter(self._prompts)))
            self._prompts[task] = known
        rows, text = known
        if not self._config.proprio_in_planner:
            return rows, text
        state = observation.state.select(self._contract.state_joints).positions
        normalised = torch.from_numpy(self._state_norm.to_model(state))[None].to(self._model.device)
        own = self._text_context(stages.proprio_row(self._model, normalised))
        return rows, LayerKv(torch.cat((text.k, own.k), dim=2), torch.cat((text.v, own.v), dim=2))

    def _rotations(self, view: MemoryView) -> tuple[Rope, Rope | None]:
        """Return the rotations of the own frame and of the memory; they are cached, since positions recur."""
        key = (*view.entry_positions, view.own_position)
        if key not in self._turns:
            while len(self._turns) >= KEPT_ROTATIONS:
                self._turns.pop(next(iter(self._turns)))
            self._turns[key] = self._rotate(view)
        return self._turns[key]

    def _rotate(self, view: MemoryView) -> tuple[Rope, Rope | None]:
        c = self._config
        positions = torch.tensor([*view.entry_positions, view.own_position], device=self._model.device)
        both = rope_3d(positions, rows=c.token_rows, columns=c.token_columns, head_dim=c.video.head_dim)
        own = Rope(both.cos[-c.frame_tokens :], both.sin[-c.frame_tokens :])
        if not view.entries:
            return own, None
        return own, Rope(both.cos[: -c.frame_tokens], both.sin[: -c.frame_tokens])
