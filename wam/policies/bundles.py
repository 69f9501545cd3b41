# SPDX-License-Identifier: Apache-2.0
"""Loads any policy from its bundle, and writes tiny random bundles of every kind; the kinds are in the registry."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import wam.models
from wam.core.errors import BundleError, ConfigError
from wam.core.policy import LoadedPolicy
from wam.models.backends.backend import AUTO
from wam.models.backends.choice import choose_plan
from wam.models.backends.plan import BackendPlan
from wam.models.bundle import Bundle, open_bundle
from wam.models.bundle.bundle import write_stats
from wam.models.robot_layout import RobotLayout
from wam.policies.compile_cache import quarantine_of, warm_cache
from wam.policies.engines import compiled
from wam.policies.export import exported
from wam.policies.kind import RANDOM, LoadOptions, PolicyKind
from wam.policies.names import built_in_kind, no_such_policy
from wam.policies.ranges import require_ranges
from wam.policies.registry import policy_kind
from wam.policies.shipped import bundle_directory
from wam.policies.units import UnitStatements
from wam.robots.description import RobotDescription
from wam.runtime.policy import PolicyRequest

BUILT_IN_SEED = 0

AUTO_DEVICE = "auto"
"""Name of a device that stands for the best one that there is."""


def load_policy(
    policy: str | Path,
    *,
    planner: bool = True,
    executor: bool = True,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    threads: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    sampler: Mapping[str, object] | None = None,
    backend: str | BackendPlan = AUTO,
    robot: RobotLayout | None = None,
    limits: RobotDescription | None = None,
) -> LoadedPolicy:
    """Load a policy.

    Args:
        policy: directory of a bundle, name of one that ships, or "KIND/random" for a built-in one with random weights.
        planner: load the slow half.
        executor: load the fast half.
        device: where the weights go; a device that is absent is an error, never replaced by another.
        dtype: what the weights become; None takes `default_precision`.
        threads: CPU threads of torch, set for the whole process; None leaves them.
        steps: overrides the sampler's integration steps.
        seed: overrides the sampler's seed.
        sampler: replaces entries of the bundle's `sampler` section (test-time scaling); the contract hash stays.
        backend: what runs the stages, as `wam.runtime.policy.read_backend` reads it; or a plan that is ready.
        robot: joints and cameras of a built-in policy; None takes two Piper arms with three cameras.
        limits: the robot that it will move, whose limits the bundle's data must fit; None where nothing moves.

    Raises:
        BundleError: the bundle is missing, damaged or of another shape, or the device is absent.
        ContractMismatch: the bundle's data are no positions of the robot.
    """
    bundle = open_policy(policy, robot=robot)
    if limits is not None:
        require_ranges(bundle, limits)
    if sampler:
        manifest = replace(bundle.manifest, sampler={**bundle.manifest.sampler, **sampler})
        bundle = replace(bundle, manifest=manifest)
    module = policy_kind(bundle.manifest.kind).load_policy_module()
    module.check(bundle)
    require_device(device)
    plan = plan_for(bundle, backend, device=device)
    if threads is not None:
        torch.set_num_threads(threads)
    options = LoadOptions(
        planner=planner,
        executor=executor,
        device=device,
        dtype=dtype or default_precision(bundle.manifest.dtype, device),
        steps=steps,
        seed=seed,
        plan=plan,
    )
    loaded = module.load(bundle, options)
    plan.require_all_met()
    return loaded


def default_precision(stored: str, device: torch.device | str) -> torch.dtype | None:
    """Return what weights are computed in on a device, or None for the stored precision.

    A CPU computes in float32: half precision is emulated there, at several times the cost, and ONNX Runtime does not
    take it. The weights are the same numbers.

    Args:
        stored: precision of the bundle, e.g. "bfloat16".
        device: where the policy computes.
    """
    half = stored in ("bfloat16", "float16")
    return torch.float32 if half and torch.device(device).type == "cpu" else None


def plan_for(bundle: Bundle, backend: str | BackendPlan, *, device: torch.device | str) -> BackendPlan:
    """Return the plan for the stages of a bundle's policy.

    Args:
        bundle: the policy.
        backend: a user's choice, or a plan that is ready.
        device: where it computes.

    Raises:
        BundleError: there is no such backend, or it does not run on this device or with this kind of policy.
    """
    if isinstance(backend, BackendPlan):
        return backend
    module = policy_kind(bundle.manifest.kind).load_policy_module()
    cache = cache_folder()
    return choose_plan(
        backend,
        device=device,
        allowed=module.BACKENDS,
        exported=exported(bundle, cache=cache, device=device),
        compiled=compiled(bundle, cache=cache, device=device),
        warm=warm_cache(bundle, cache=cache, device=device),
        quarantine=quarantine_of(bundle, cache=cache, device=device),
    )


def load_request(request: PolicyRequest, *, robot: RobotDescription) -> LoadedPolicy:
    """Load the policy that a node requests; a built-in one is made for `robot`.

    Raises:
        BundleError: see `load_policy`.
        ContractMismatch: see `load_policy`.
    """
    return load_policy(
        request.policy,
        planner=request.planner,
        executor=request.executor,
        device=request.device,
        threads=request.threads,
        seed=request.seed,
        sampler=request.sampler,
        backend=request.backend,
        robot=RobotLayout.of(robot),
        limits=robot,
    )


def open_policy(policy: str | Path, *, robot: RobotLayout | None = None) -> Bundle:
    """Open a bundle by directory or name; those with random weights are made once per user, robot and version.

    Raises:
        BundleError: there is no such bundle.
    """
    if (directory := bundle_directory(policy)) is not None:
        return open_bundle(directory)
    if (kind := built_in_kind(policy)) is not None:
        return open_bundle(_built_in(policy_kind(kind), robot or RobotLayout()))
    raise no_such_policy(policy, where="the parameter `policy`")


def make_tiny_bundle(
    out_dir: str | Path,
    kind: str,
    *,
    robot: RobotLayout | None = None,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a bundle with random weights, for tests and demos.

    Args:
        out_dir: new or empty directory.
        kind: name of a policy kind.
        robot: cameras and joints; None takes two Piper arms with three cameras.
        seed: of the weights.
        overrides: sizes of the network to replace.

    Returns:
        The bundle, opened.
    """
    module = policy_kind(kind).load_policy_module()
    return module.make_tiny(Path(out_dir), robot=robot or RobotLayout(), seed=seed, overrides=overrides)


def state_units(source: Path, out: Path, units: UnitStatements) -> Bundle:
    """Write a copy of a bundle whose columns have other units; its contract hash changes with them.

    Args:
        source: the bundle.
        out: new or empty directory.
        units: of its columns, in place of those that it states.

    Raises:
        BundleError: `source` is no bundle, `out` is not empty, or the units do not fit.
        ConfigError: the units are malformed, or none are stated.
    """
    bundle = open_bundle(source)
    contract = bundle.contract
    if not units.stated:
        raise ConfigError("no units are stated", allowed="--embodiment or --units", where="the command line")
    stats = units.apply(
        bundle.stats, state_joints=contract.state_joints, action_joints=contract.action_joints
    )
    if out.exists() and any(out.iterdir()):
        raise BundleError(f"{out} is not empty", allowed="a new directory", where="the output path")
    shutil.copytree(source, out, dirs_exist_ok=True)
    write_stats(out, stats)
    return open_bundle(out)


def choose_device(name: str) -> str:
    """Return the device called `name`; "auto" is the first CUDA device where there is one, else the CPU."""
    if name != AUTO_DEVICE:
        return name
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def require_device(device: torch.device | str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        BundleError: the device is absent, or its name means nothing.
    """
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise BundleError(
            "there is no such kind of device",
            value=str(device),
            allowed="auto, cpu, cuda or cuda:N",
            where="the parameter `device`",
        ) from error
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise BundleError(
            "the device is absent",
            value=str(wanted),
            allowed="cpu on this machine",
            where="the parameter `device`",
        )


def cache_folder() -> Path:
    """Return the folder of this suite in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wam"


def _built_in(kind: PolicyKind, robot: RobotLayout) -> Path:
    """Return the directory of the random bundle in the user's cache; written where it is not there."""
    key = _code_digest(kind)
    key.update(repr(robot).encode("utf-8"))
    cache = cache_folder() / "bundles"
    target = cache / f"{kind.name}-{RANDOM}-{key.hexdigest()[:16]}"
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=cache, prefix=f".{kind.name}-"))
        try:
            make_tiny_bundle(scratch, kind.name, robot=robot, seed=BUILT_IN_SEED)
            scratch.rename(target)
        except OSError:
            # Another process finished first; its bundle is the same.
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def _code_digest(kind: PolicyKind) -> hashlib._Hash:
    """Return a digest of all code that makes bundles of a kind: its folder, what policies share, `wam.models`."""
    digest = hashlib.sha256()
    policy_file = Path(str(kind.load_policy_module().__file__))
    for files in (
        sorted(policy_file.parent.glob("*.py")),
        sorted(Path(__file__).parent.glob("*.py")),
        sorted(Path(str(wam.models.__file__)).parent.rglob("*.py")),
    ):
        for path in files:
            digest.update(path.read_bytes())
    return digest
