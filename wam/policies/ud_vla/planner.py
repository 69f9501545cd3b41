# SPDX-License-Identifier: Apache-2.0
"""UD-VLA's planner: text and images in, prefix keys and values out."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from wam.core.context import PlannerContext
from wam.core.contract import PolicyContract
from wam.core.errors import InputError
from wam.core.observation import Instruction, Observation
from wam.core.policy import Features
from wam.models.backends.backend import HOST_NAME
from wam.models.backends.plan import BackendPlan, eager_plan
from wam.models.finite import all_finite, require_finite_layers
from wam.models.images import require_cameras
from wam.policies.results import context_header
from wam.policies.ud_vla.context import UdVlaContext
from wam.policies.ud_vla.decoder import PrefixKv, UdVlaDecoder
from wam.policies.ud_vla.sequence import SequenceLayout
from wam.policies.ud_vla.stages import PlannerStages, prefix_levels
from wam.policies.ud_vla.text import TextTokenizer
from wam.policies.ud_vla.vision import ImageTokenizer, pixels_of


class UdVlaPlanner:
    """Image tokenizer and prefill. One worker thread calls it; it has no memory.

    Args:
        decoder: loaded.
        vision: loaded.
        contract: of the bundle.
        layout: of the sequence.
        text: turns instructions into ids.
        template: text for the tokenizer; "{task}" is replaced by the instruction.
        example: ids of a prefix as the policy's own instruction gives it, for which the stages are prepared.
        plan: what runs the stages.
    """

    def __init__(
        self,
        decoder: UdVlaDecoder,
        vision: ImageTokenizer,
        *,
        contract: PolicyContract,
        layout: SequenceLayout,
        text: TextTokenizer,
        template: str,
        example: Tensor,
        plan: BackendPlan | None = None,
    ) -> None:
        self._decoder = decoder
        self._vision = vision
        self._contract = contract
        self._layout = layout
        self._text = text
        self._template = template
        self._version = 0
        plan = plan or eager_plan()
        plan.declare("image_preparation", HOST_NAME, "images are resized as bytes, as they were for training")
        self._stages = PlannerStages(
            decoder,
            vision,
            plan,
            layout=layout,
            sizes=[(camera.height, camera.width) for camera in contract.cameras],
            prefix=example,
        )

    @torch.inference_mode()
    def plan(self, observation: Observation, *, instruction: Instruction) -> PlannerContext[UdVlaContext]:
        """Encode the newest images, and run the prefix once.

        Raises:
            ImageError: a camera is missing.
            InputError: the instruction is too long for the policy.
            PolicyFault: a key or value is not finite.
        """
        started_ns = time.perf_counter_ns()
        ids = self.prefix(observation, instruction.text).to(self._decoder.device)
        kv = self._prefill(ids)
        self._version += 1
        header = context_header(
            self._contract,
            stamp_ns=observation.stamp_ns,
            instruction=instruction,
            version=self._version,
            started_ns=started_ns,
        )
        return PlannerContext(header, UdVlaContext(ids, kv.k, kv.v))

    def prefix(self, observation: Observation, instruction: str) -> Tensor:
        """Return the ids of text and images [P].

        Raises:
            ImageError: a camera is missing.
            InputError: the instruction is too long for the policy.
        """
        codes = self._codes(observation)
        ids = self._layout.prefix(self._text(self._template.replace("{task}", instruction)), codes)
        require_fits(ids, layout=self._layout, most=self._decoder.config.max_positions)
        return ids

    @torch.inference_mode()
    def perceive(self, observation: Observation) -> Features:
        """Return the images of an observation as the codes show them, camera -> float32 [H, W, 3] in 0..1.

        An imagined image can be no sharper than its codes, so neither is what it is compared with.

        Raises:
            ImageError: a camera is missing.
        """
        return {
            camera: pixels_of(self._vision.decode(codes))
            for camera, codes in zip(self._contract.camera_names, self._codes(observation), strict=True)
        }

    def _codes(self, observation: Observation) -> list[Tensor]:
        codes = []
        require_cameras(observation.frames, self._contract.camera_names)
        for camera in self._contract.cameras:
            frame = observation.frames[camera.name]
            pixels = self._vision.pixels(frame.rgb, height=camera.height, width=camera.width)
            codes.append(self._stages.image_codes(pixels)[0])
        return codes

    def _prefill(self, ids_P: Tensor) -> PrefixKv:
        if self._stages.prefix is None:
            config = self._decoder.config
            empty = torch.empty(
                (0, 1, config.kv_heads, len(ids_P), config.head_dim),
                dtype=self._decoder.dtype,
                device=self._decoder.device,
            )
            return PrefixKv(empty, empty)
        kv = PrefixKv(*self._stages.prefix(ids_P, prefix_levels(self._layout, ids_P)))
        if not all_finite(kv.k, kv.v):
            require_finite_layers(kv.k, what="key of the prefix")
            require_finite_layers(kv.v, what="value of the prefix")
        return kv

    def reset(self) -> None:
        """Start counting versions anew; there is no other memory."""
        self._version = 0


def require_fits(ids_P: Tensor, *, layout: SequenceLayout, most: int) -> None:
    """Refuse a prefix that leaves too few positions.

    Raises:
        InputError: the instruction is too long.
    """
    room = most - layout.image_len - layout.generated_len
    text = len(ids_P) - layout.image_len
    if text > room:
        raise InputError(
            f"the instruction has {text} tokens with its begin mark",
            allowed=f"at most {room}",
            where="the instruction, or model.max_positions in policy.yaml",
        )
