# SPDX-License-Identifier: Apache-2.0
"""AHA-WAM and Fast-WAM checkpoints as policy bundles.

The sizes are read from the tensors; what they do not determine (heads, cameras, rates, horizon) is an option with
the released value as its default.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wam.core.errors import BundleError
from wam.models.bundle import Bundle, open_bundle, write_bundle
from wam.models.bundle.bundle import read_stats
from wam.models.bundle.manifest import read_manifest
from wam.models.bundle.weights import DEFAULT_SHARD_BYTES, iterate, open_weights
from wam.models.container import Container, read_pt
from wam.models.images import standard_layout
from wam.models.text import CACHE_NAME, TextEncoder, embed_all, prompt_key, write_cache
from wam.policies.aha_wam.convert.dataset_stats import read_dataset_stats
from wam.policies.aha_wam.convert.source import (
    ConversionOptions,
    ForeignPolicy,
    require_whole,
    sizes_of,
    without_branch_embedding,
    write_policy,
)
from wam.policies.aha_wam.convert.wan_weights import read_vae
from wam.policies.aha_wam.key_map import rename_released
from wam.policies.aha_wam.policy import (
    VAE_PREFIX,
    config_of,
    layout_of,
)
from wam.policies.units import SI_UNITS, UnitStatements

TEACHER_STEPS = 10
FLASH_STEPS = 2


def _tensors(container: Container, *, fast: bool) -> dict[str, Tensor]:
    tensors = rename_released(container.tensors)
    branch = tensors.get("branch_embedding")
    if fast:
        return without_branch_embedding(tensors)
    if branch is not None and branch.dim() == 2 and branch.shape[0] == 1:
        tensors["branch_embedding"] = torch.cat((torch.zeros_like(branch), branch))
    return tensors


def convert(
    checkpoint: Path,
    stats: Path,
    out: Path,
    *,
    fast: bool,
    options: ConversionOptions | None = None,
    vae: Path | None = None,
    units: UnitStatements = SI_UNITS,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> Bundle:
    """Turn a released checkpoint into a bundle.

    Args:
        checkpoint: the `.pt` file: AHA-WAM, AHA-WAM-Flash, AHA-WAM pretrained, or Fast-WAM.
        stats: its `dataset_stats.json`.
        out: new or empty directory.
        fast: the file is Fast-WAM.
        options: what the file does not say about itself.
        vae: the Wan 2.2 VAE, original or diffusers layout; None leaves it out, to be added by `add_vae`.
        units: of the columns of the statistics.
        max_shard_bytes: size of a weights shard [bytes].

    Returns:
        The bundle. Its planner needs an embedding cache as well: see `add_text_embeddings`.

    Raises:
        BundleError: the checkpoint is damaged, or does not fit the options, the statistics or the units.
        ConfigError: the units are malformed.
    """
    options = options or ConversionOptions()
    container = read_pt(checkpoint)
    tensors = _tensors(container, fast=fast)
    config = sizes_of(tensors, options, fast=fast)
    distilled = any(name.startswith("ode_metadata") for name in container.values)
    try:
        layout = standard_layout(options.cameras, height=config.image_height, width=config.image_width)
    except ValueError as error:
        raise BundleError(f"camera layout: {error}", where="the option cameras") from error
    plain = {k: v for k, v in container.values.items() if isinstance(v, (str, int, float, bool))}
    source = ForeignPolicy(
        checkpoint,
        tensors,
        {"offset_training": options.offset_training, **plain},
        "Fast-WAM" if fast else "AHA-WAM-Flash" if distilled else "AHA-WAM",
    )
    require_whole(source, config)
    return write_policy(
        source,
        out,
        config=config,
        layout=layout,
        statistics=read_dataset_stats(stats, state_width=config.state_dim, action_width=config.action_dim),
        options=replace(options, steps=options.steps or (FLASH_STEPS if distilled else TEACHER_STEPS)),
        vae=vae,
        units=units,
        max_shard_bytes=max_shard_bytes,
    )


def convert_aha_wam(checkpoint: Path, stats: Path, out: Path, **keywords: Any) -> Bundle:
    """Convert AHA-WAM, AHA-WAM-Flash or AHA-WAM pretrained; keywords as for `convert`."""
    return convert(checkpoint, stats, out, fast=False, **keywords)


def convert_fast_wam(checkpoint: Path, stats: Path, out: Path, **keywords: Any) -> Bundle:
    """Convert Fast-WAM; keywords as for `convert`."""
    return convert(checkpoint, stats, out, fast=True, **keywords)


def add_vae(source: Path, vae: Path, out: Path, *, max_shard_bytes: int = DEFAULT_SHARD_BYTES) -> Bundle:
    """Write a copy of a bundle with the VAE in it; the contract hash changes with the weights' header.

    Args:
        source: the bundle.
        vae: as for `convert`.
        out: new or empty directory.
        max_shard_bytes: size of a weights shard [bytes].

    Raises:
        BundleError: the VAE does not fit.
    """
    bundle = open_bundle(source)
    config = config_of(bundle.manifest)
    layout_of(bundle.manifest, config)
    names = [n for n in bundle.weights.tensors if not n.startswith(VAE_PREFIX)]
    tensors = dict(iterate(bundle.weights, names))
    tensors.update({VAE_PREFIX + n: t for n, t in read_vae(vae, config.vae).items()})
    made = write_bundle(
        out, manifest=bundle.manifest, stats=bundle.stats, tensors=tensors, max_shard_bytes=max_shard_bytes
    )
    if (source / CACHE_NAME).is_file():
        (out / CACHE_NAME).write_bytes((source / CACHE_NAME).read_bytes())
    return made


def add_text_embeddings(
    bundle_dir: Path, tasks: list[str], encoder: TextEncoder, *, encoder_name: str
) -> Path:
    """Embed tasks with a bundle's instruction template and put the cache into the bundle.

    Args:
        bundle_dir: the bundle.
        tasks: instructions as operators will give them.
        encoder: the real text encoder.
        encoder_name: for the record.

    Returns:
        The file written. The contract hash does not change.
    """
    manifest = read_manifest(bundle_dir)
    config = config_of(manifest)
    prompts = [manifest.instruction_template.replace("{task}", task) for task in tasks]
    path = bundle_dir / CACHE_NAME
    write_cache(path, embed_all(encoder, prompts), encoder=encoder_name, text_len=config.context_len)
    return path


def import_released_text_cache(bundle_dir: Path, cache_dir: Path, tasks: list[str]) -> Path:
    """Collect the release's per-prompt embedding files into a bundle's cache.

    The release names a file `<sha256 of the prompt>.t5_len<T>.<model>.pt` and stores "context" [T, E] and "mask" [T].

    Raises:
        BundleError: a task has no file, or a file is of another layout.
    """
    manifest = read_manifest(bundle_dir)
    config = config_of(manifest)
    embeddings = {}
    for task in tasks:
        prompt = manifest.instruction_template.replace("{task}", task)
        files = sorted(cache_dir.glob(f"{prompt_key(prompt)}.t5_len{config.context_len}.*.pt"))
        if not files:
            raise BundleError(f"{cache_dir} has no embedding of {prompt!r}")
        tensors = read_pt(files[0]).tensors
        if set(tensors) != {"context", "mask"} or tuple(tensors["context"].shape) != (
            config.context_len,
            config.text_dim,
        ):
            raise BundleError(f"{files[0]} is no embedding of {config.context_len} x {config.text_dim}")
        embeddings[prompt] = tensors["context"] * tensors["mask"].bool()[:, None]
    path = bundle_dir / CACHE_NAME
    write_cache(path, embeddings, encoder="released cache", text_len=config.context_len)
    return path


def describe(directory: Path) -> dict[str, Any]:
    """Return what a bundle contains and what is still missing, for people."""
    manifest = read_manifest(directory)
    read_stats(directory, manifest)
    weights = open_weights(directory)
    has_vae = any(n.startswith(VAE_PREFIX) for n in weights.tensors)
    lacks = [] if has_vae else ["the VAE (wam convert add-vae)"]
    if (
        manifest.text.get("kind") == "cache"
        and not (directory / str(manifest.text.get("file", CACHE_NAME))).is_file()
    ):
        lacks.append("text embeddings (wam convert add-text)")
    return {
        "source": dict(manifest.source),
        "dtype": manifest.dtype,
        "tensors": len(weights.tensors),
        "lacks": lacks,
    }
