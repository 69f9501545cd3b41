# SPDX-License-Identifier: Apache-2.0
"""Loads any policy from its bundle, and writes tiny random bundles of every kind.

A kind is a package `wam.models.<kind>` whose module `policy` has `load(bundle, ...)`, `check(bundle)` and
`make_tiny(directory, robot=..., seed=...)`; see `wam.policies.aha_wam.policy`.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from wam.core.errors import BundleError
from wam.core.policy import LoadedPolicy
from wam.models.backends.backend import AUTO, EAGER_NAME, Backend, choose_backend
from wam.models.bundle import Bundle, open_bundle
from wam.models.layout import RobotLayout
from wam.robots.description import RobotDescription
from wam.runtime.policy import PolicyRequest

KINDS = ("aha_wam", "dust", "ud_vla")
BUILT_IN_SEED = 0


def kind_module(kind: str) -> ModuleType:
    """Return the module that loads bundles of `kind`.

    Raises:
        BundleError: the kind is unknown, or not part of this installation.
    """
    if kind not in KINDS:
        raise BundleError("policy.yaml: kind", value=kind, allowed=f"one of {KINDS}")
    name = f"wam.policies.{kind}.policy"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise BundleError(f"policies of kind {kind!r} are not part of this installation") from error


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
    backend: str = AUTO,
    robot: RobotLayout | None = None,
) -> LoadedPolicy:
    """Load a policy.

    Args:
        policy: directory of a bundle, or "KIND/tiny" for a built-in one with random weights.
        planner: load the slow half.
        executor: load the fast half.
        device: where the weights go; a device that is absent is an error, never replaced by another.
        dtype: what the weights become; None keeps the stored precision.
        threads: CPU threads of torch, set for the whole process; None leaves them.
        steps: overrides the sampler's integration steps.
        seed: overrides the sampler's seed.
        sampler: replaces entries of the bundle's `sampler` section (test-time scaling); the contract hash stays.
        backend: one of `BACKENDS`; "auto" takes CUDA graphs where device and policy can.
        robot: joints and cameras of a built-in policy; None takes two Piper arms with three cameras.

    Raises:
        BundleError: the bundle is missing, damaged or of another shape, or the device is absent.
    """
    bundle = open_policy(policy, robot=robot)
    if sampler:
        manifest = replace(bundle.manifest, sampler={**bundle.manifest.sampler, **sampler})
        bundle = replace(bundle, manifest=manifest)
    module = kind_module(bundle.manifest.kind)
    module.check(bundle)
    require_device(device)
    options = _backend_options(module, backend, device=device)
    if threads is not None:
        torch.set_num_threads(threads)
    loaded: LoadedPolicy = module.load(
        bundle,
        planner=planner,
        executor=executor,
        device=device,
        dtype=dtype,
        steps=steps,
        seed=seed,
        **options,
    )
    return loaded


def _backend_options(module: ModuleType, name: str, *, device: torch.device | str) -> dict[str, Backend]:
    """Return the keyword for `module.load`; a kind without `BACKENDS` runs eagerly."""
    backend = choose_backend(name, device=device)
    if backend.name in getattr(module, "BACKENDS", ()):
        return {"backend": backend}
    if name not in (AUTO, EAGER_NAME):
        raise BundleError(
            f"policies of kind {module.KIND} have no backend {name}",
            allowed=f"{AUTO} or {EAGER_NAME}",
            where="the parameter `backend`",
        )
    return {}


def load_request(request: PolicyRequest, *, robot: RobotDescription) -> LoadedPolicy:
    """Load what a node asks for; a built-in policy is made for `robot`.

    Raises:
        BundleError: see `load_policy`.
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
    )


def open_policy(policy: str | Path, *, robot: RobotLayout | None = None) -> Bundle:
    """Open a bundle by directory or built-in name; built-in ones are made once per user, robot and version.

    Raises:
        BundleError: there is no such bundle.
    """
    kind, _, name = str(policy).partition("/")
    if kind in KINDS and name == "tiny" and not Path(policy).exists():
        return open_bundle(_built_in(kind, robot or RobotLayout()))
    if not Path(policy).is_dir():
        raise BundleError(
            "no policy bundle of that name",
            value=str(policy),
            allowed=f"a directory with policy.yaml, or one of {[f'{k}/tiny' for k in KINDS]}",
            where="the parameter `policy`",
        )
    return open_bundle(policy)


def make_tiny_bundle(
    out_dir: str | Path,
    kind: str = "aha_wam",
    *,
    robot: RobotLayout | None = None,
    seed: int = 0,
    **options: Any,
) -> Bundle:
    """Write a bundle with random weights, for tests and demos.

    Args:
        out_dir: new or empty directory.
        kind: one of `KINDS`.
        robot: cameras and joints; None takes two Piper arms with three cameras.
        seed: of the weights.
        options: further keywords of the kind's `make_tiny` (AHA-WAM: preset_name, overrides, steps).

    Returns:
        The bundle, opened.
    """
    made: Bundle = kind_module(kind).make_tiny(
        Path(out_dir), robot=robot or RobotLayout(), seed=seed, **options
    )
    return made


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
            allowed="cpu, cuda or cuda:N",
            where="the parameter `device`",
        ) from error
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise BundleError(
            "the device is absent",
            value=str(wanted),
            allowed="cpu on this machine",
            where="the parameter `device`",
        )


def _built_in(kind: str, robot: RobotLayout) -> Path:
    module = kind_module(kind)
    version = hashlib.sha256(repr(robot).encode("utf-8"))
    package = Path(str(module.__file__)).parent
    for path in sorted([*package.glob("*.py"), *package.parent.glob("*.py"), *package.parent.glob("*/*.py")]):
        version.update(path.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wam" / "bundles"
    target = cache / f"{kind}-tiny-{version.hexdigest()[:16]}"
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=cache, prefix=f".{kind}-"))
        try:
            make_tiny_bundle(scratch, kind, robot=robot, seed=BUILT_IN_SEED)
            scratch.rename(target)
        except OSError:
            # Another process was faster; its bundle is the same.
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target
