# SPDX-License-Identifier: Apache-2.0
"""The policy behind the registry: opens its bundles and writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wam.core.errors import BundleError
from wam.core.policy import LoadedPolicy
from wam.models.backends.backend import EAGER_NAME
from wam.models.backends.plan import eager_plan
from wam.models.bundle import Bundle, Manifest, load_into, write_bundle
from wam.models.normalisation import FieldStats, Normaliser, NormMode, PolicyStats
from wam.models.robot_layout import RobotLayout
from wam.policies.kind import LoadOptions
from wam.policies.state.config import StateConfig
from wam.policies.state.context import codec
from wam.policies.state.executor import StateExecutor
from wam.policies.state.network import StateNetwork
from wam.policies.state.planner import StatePlanner

BACKENDS: tuple[str, ...] = (EAGER_NAME,)
"""What may run the stages."""

KIND = "state"
HORIZON_CHUNKS = 4
"""Chunks that one context serves: it is empty, and ages only so that a planner that has died is noticed."""

TINY_ENVIRONMENT = ("object.x", "object.y", "object.z")
"""Ground truth of the built-in bundle: every simulated task has it."""


def config_of(manifest: Manifest) -> StateConfig:
    """Return the sizes that a manifest describes.

    Raises:
        BundleError: a key is missing, unknown or illegal, or the policy has cameras or absolute rows.
    """
    if set(manifest.model) != {"width", "depth", "live"}:
        raise BundleError("policy.yaml: model", value=dict(manifest.model), allowed="width, depth and live")
    if manifest.cameras or not manifest.environment or not manifest.relative_actions:
        raise BundleError(
            "policy.yaml of a state policy",
            value=f"{len(manifest.cameras)} cameras, {len(manifest.environment)} names in environment, "
            f"relative_actions {manifest.relative_actions}",
            allowed="no cameras, at least one name, true",
        )
    try:
        return StateConfig(
            state=len(manifest.state_joints),
            environment=len(manifest.environment),
            action=len(manifest.action_joints),
            rows=manifest.chunk_rows,
            width=int(manifest.model["width"]),
            depth=int(manifest.model["depth"]),
            live=bool(manifest.model["live"]),
        )
    except (TypeError, ValueError) as error:
        raise BundleError(f"policy.yaml: model: {error}", value=dict(manifest.model)) from error


def check(bundle: Bundle) -> StateConfig:
    """Check everything about a bundle that can be read from the headers of its files.

    Raises:
        BundleError: sizes, names, shapes or precision do not fit.
    """
    config = config_of(bundle.manifest)
    with torch.device("meta"):
        want = {name: tuple(t.shape) for name, t in StateNetwork(config).state_dict().items()}
    bundle.weights.require(want, what=f"the state network of {bundle.directory}")
    bundle.weights.require_dtype(bundle.manifest.dtype, names=want)
    return config


def load(bundle: Bundle, options: LoadOptions) -> LoadedPolicy:
    """Load the requested halves.

    Raises:
        BundleError: the bundle does not fit; nothing was allocated on the device.
    """
    config = check(bundle)
    contract, manifest = bundle.contract, bundle.manifest
    plan = options.plan or eager_plan()
    fast = None
    if options.executor:
        with torch.device("meta"):
            network = StateNetwork(config)
        load_into(network, bundle.weights, device=options.device, dtype=options.dtype)
        fast = StateExecutor(
            network.eval(),
            contract=contract,
            state_norm=Normaliser(bundle.stats.state, mode=manifest.state_norm),
            action_norm=Normaliser(bundle.stats.action, mode=manifest.action_norm),
            device=options.device,
            plan=plan,
        )
    slow = StatePlanner(contract) if options.planner else None
    return LoadedPolicy(contract, slow, fast, codec(), str(options.device), plan.stages)


def write(
    directory: Path,
    tensors: Mapping[str, Tensor],
    config: StateConfig,
    *,
    robot: RobotLayout,
    environment: tuple[str, ...],
    stats: PolicyStats,
    source: Mapping[str, Any],
    dtype: str = "float32",
) -> Bundle:
    """Write a bundle; training and `make_tiny` both end here.

    Args:
        directory: new or empty.
        tensors: of the network, by name, of precision `dtype`.
        config: sizes.
        robot: joints, rate and instruction.
        environment: names of the ground truth.
        stats: of the state, and of the rows relative to it.
        source: where the weights come from.
        dtype: of the weights.
    """
    manifest = Manifest(
        kind=KIND,
        model={"width": config.width, "depth": config.depth, "live": config.live},
        cameras=(),
        state_joints=robot.state_joints,
        action_joints=robot.action_joints,
        control_period_ns=robot.control_period_ns,
        chunk_rows=config.rows,
        horizon_rows=HORIZON_CHUNKS * config.rows,
        instruction=robot.instruction,
        instruction_template="{task}",
        state_norm=NormMode.Z_SCORE,
        action_norm=NormMode.Z_SCORE,
        dtype=dtype,
        text={},
        sampler={},
        source=source,
        relative_actions=True,
        environment=environment,
    )
    return write_bundle(directory, manifest=manifest, stats=stats, tensors=tensors)


def make_tiny(
    directory: Path, *, robot: RobotLayout, seed: int, overrides: Mapping[str, Any] | None = None
) -> Bundle:
    """Write a bundle with random weights, which hardly moves.

    Args:
        directory: new or empty.
        robot: joints and rates it is for.
        seed: of the weights.
        overrides: sizes to replace.
    """
    sizes = StateConfig(
        state=len(robot.state_joints),
        environment=len(TINY_ENVIRONMENT),
        action=len(robot.action_joints),
    )
    config = replace(sizes, **dict(overrides or {}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = StateNetwork(config)
    still = robot.stats()
    spread = still.action.values["std"]
    relative = FieldStats({"mean": 0.0 * spread, "std": spread, "min": -3 * spread, "max": 3 * spread})
    return write(
        directory,
        dict(network.state_dict()),
        config,
        robot=robot,
        environment=TINY_ENVIRONMENT,
        stats=PolicyStats(still.state, relative),
        source={"weights": "random", "seed": seed},
    )
