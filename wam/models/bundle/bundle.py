# SPDX-License-Identifier: Apache-2.0
"""A policy bundle as one value, its contract hash, and how to write one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from wam.core.contract import PolicyContract, TrainedOn
from wam.core.errors import BundleError
from wam.models.bundle.manifest import MANIFEST_NAME, Manifest, read_manifest
from wam.models.bundle.weights import DEFAULT_SHARD_BYTES, WeightsIndex, open_weights, save_weights
from wam.models.normalisation import PolicyStats

STATS_NAME = "stats.json"
STATS_VERSION = 1
STATS_WITH_UNITS = 2
"""Version of a file that states units: older readers must refuse it, and files without units keep their hash."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: everything except the weights themselves is read and checked.

    Attributes:
        directory: where it lies.
        manifest: contents of `policy.yaml`.
        stats: contents of `stats.json`.
        weights: headers of the weights.
        contract: what both nodes must agree on, with the contract hash.
    """

    directory: Path
    manifest: Manifest
    stats: PolicyStats
    weights: WeightsIndex
    contract: PolicyContract


def read_stats(directory: Path, manifest: Manifest) -> PolicyStats:
    """Read `stats.json`.

    Raises:
        BundleError: it is missing, of another version, of other widths, not finite, or has a zero std or an illegal
            unit.
    """
    path = directory / STATS_NAME
    if not path.is_file():
        raise BundleError(f"{path} is missing", where="the bundle; convert it again")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}") from error
    version = raw.get("version") if isinstance(raw, dict) else None
    if version not in (STATS_VERSION, STATS_WITH_UNITS):
        raise BundleError(
            f"{path}: version",
            value=version,
            allowed=f"{STATS_VERSION} or {STATS_WITH_UNITS}",
            where="convert the bundle again",
        )
    return PolicyStats.from_dict(
        raw, what=str(path), state_width=len(manifest.state_joints), action_width=len(manifest.action_joints)
    )


def write_stats(directory: Path, stats: PolicyStats) -> None:
    """Write `stats.json`."""
    version = STATS_WITH_UNITS if stats.state.units or stats.action.units else STATS_VERSION
    payload = {"version": version, **stats.to_dict()}
    (directory / STATS_NAME).write_text(json.dumps(payload, indent=1), encoding="utf-8")


def contract_hash(directory: Path, weights: WeightsIndex) -> str:
    """Return the SHA-256 (hex) of policy.yaml, stats.json and the weights' headers."""
    digest = hashlib.sha256()
    for part in (
        (directory / MANIFEST_NAME).read_bytes(),
        (directory / STATS_NAME).read_bytes(),
        *weights.headers,
    ):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def open_bundle(directory: Path | str) -> Bundle:
    """Read and check a bundle; no weight is read and no device is touched.

    Raises:
        BundleError: a part is missing, damaged or does not fit the others.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    stats = read_stats(directory, manifest)
    weights = open_weights(directory)
    return Bundle(directory, manifest, stats, weights, manifest.contract(contract_hash(directory, weights)))


def write_bundle(
    directory: Path | str,
    *,
    manifest: Manifest,
    stats: PolicyStats,
    tensors: Mapping[str, Tensor],
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> Bundle:
    """Write a bundle and open it again, so that the returned value is what is on disk.

    Args:
        directory: is made; must be empty or new.
        manifest: contents of `policy.yaml`.
        stats: contents of `stats.json`.
        tensors: weights by the loader's names.
        max_shard_bytes: size of a shard [bytes].

    Raises:
        BundleError: the directory is not empty, or what was written does not fit together.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise BundleError(f"{directory} is not empty", allowed="a new directory", where="the output path")
    (directory / MANIFEST_NAME).write_text(manifest.to_yaml(), encoding="utf-8")
    write_stats(directory, stats)
    save_weights(directory, tensors, max_shard_bytes=max_shard_bytes)
    return open_bundle(directory)


def state_training(bundle: Bundle, *, task: str, trained_on: TrainedOn) -> Bundle:
    """Write what a bundle was trained for into its `policy.yaml`; the contract hash changes with it.

    Args:
        bundle: one that nothing has loaded yet.
        task: name of the task; "" for not known.
        trained_on: the data.
    """
    manifest = replace(bundle.manifest, task=task, trained_on=trained_on)
    (bundle.directory / MANIFEST_NAME).write_text(manifest.to_yaml(), encoding="utf-8")
    return open_bundle(bundle.directory)
