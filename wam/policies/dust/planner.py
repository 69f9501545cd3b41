# SPDX-License-Identifier: Apache-2.0
"""DUST's planner: images and text in, projected features out."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from wam.core.context import PlannerContext
from wam.core.contract import PolicyContract
from wam.core.observation import Instruction, Observation
from wam.core.policy import Features
from wam.models.backends.backend import HOST_NAME
from wam.models.backends.plan import BackendPlan, eager_plan
from wam.models.backends.stage import PolicyPart, StageInputs, StageSpec
from wam.models.finite import all_finite, require_finite, require_finite_layers
from wam.policies.dust.context import EMBEDDING, DustContext
from wam.policies.dust.model import Backbone, FeatureProjection
from wam.policies.dust.prompt import Prompter
from wam.policies.dust.stages import ImageFeaturesStage, LanguageStage, ProjectionStage
from wam.policies.dust.views import prepare_views
from wam.policies.results import context_header


class DustPlanner:
    """The backbone and the head's projections of its features. One worker thread calls it; it has no memory.

    Args:
        backbone: loaded.
        projection: the head's share.
        contract: of the bundle.
        prompter: turns instructions into tokens.
        image_size: rows and columns of an image as the backbone sees it [px].
        crop: part of each side of an image that is kept.
        target_view: number of the camera whose future the world model predicts.
        plan: what runs the stages.
    """

    def __init__(
        self,
        backbone: Backbone,
        projection: FeatureProjection,
        *,
        contract: PolicyContract,
        prompter: Prompter,
        image_size: tuple[int, int],
        crop: float,
        target_view: int = 0,
        plan: BackendPlan | None = None,
    ) -> None:
        self._backbone = backbone
        self._contract = contract
        self._prompter = prompter
        self._image_size = image_size
        self._crop = crop
        self._target_view = target_view
        self._version = 0
        plan, part = plan or eager_plan(), PolicyPart.PLANNER
        plan.declare(
            "image_preparation", HOST_NAME, "images of any size, cut and resized as they were for training"
        )
        self._see = plan.prepare(
            StageSpec("image_features", part, ImageFeaturesStage(backbone).eval(), self._pixel_examples)
        )
        self._read = plan.prepare(
            StageSpec("language", part, LanguageStage(backbone).eval(), self._language_examples)
        )
        self._project = plan.prepare(
            StageSpec("projection", part, ProjectionStage(projection).eval(), self._feature_examples)
        )

    def _pixel_examples(self) -> list[StageInputs]:
        sizes = (len(self._contract.cameras), 3, *self._image_size)
        return [StageInputs.of(torch.zeros(sizes, device=self._backbone.device))]

    def _language_examples(self) -> list[StageInputs]:
        (pixels,) = self._pixel_examples()[0].tensors
        return [StageInputs.of(self._backbone.see(pixels), self._ids(self._contract.instruction))]

    def _feature_examples(self) -> list[StageInputs]:
        return [StageInputs.of(self._read(*self._language_examples()[0].tensors))]

    def _ids(self, instruction: str) -> Tensor:
        return self._prompter(instruction).to(self._backbone.device)

    @torch.inference_mode()
    def plan(self, observation: Observation, *, instruction: Instruction) -> PlannerContext[DustContext]:
        """Compute the keys and values of the newest images and the instruction.

        Raises:
            ImageError: a camera is missing.
            InputError: the instruction is too long for the policy.
            PolicyFault: a value is not finite; the text names the stage.
        """
        started_ns = time.perf_counter_ns()
        ids = self._ids(instruction.text)
        patches = self._see(self._pixels(observation, self._contract.camera_names))
        self._backbone.require_places(ids, images=len(patches))
        features = self._read(patches, ids)
        k, v = self._project(features)
        if not all_finite(k, v):
            require_finite(features, what="feature of the vision-language model")
            require_finite_layers(k, what="projected key")
            require_finite_layers(v, what="projected value")
        self._version += 1
        header = context_header(
            self._contract,
            stamp_ns=observation.stamp_ns,
            instruction=instruction,
            version=self._version,
            started_ns=started_ns,
        )
        return PlannerContext(header, DustContext(k, v))

    @torch.inference_mode()
    def perceive(self, observation: Observation) -> Features:
        """Return the target of the world model for an observation: `EMBEDDING` -> float32 [P, O]."""
        camera = self._contract.camera_names[self._target_view]
        target = self._backbone.target(self._pixels(observation, (camera,)))
        return {EMBEDDING: target[0].float().cpu().numpy()}

    def _pixels(self, observation: Observation, cameras: tuple[str, ...]) -> Tensor:
        views = {name: frame.rgb for name, frame in observation.frames.items()}
        pixels = prepare_views(views, cameras, size=self._image_size, crop=self._crop)
        return pixels.to(self._backbone.device)

    def reset(self) -> None:
        """Start counting versions anew; there is no other memory."""
        self._version = 0
