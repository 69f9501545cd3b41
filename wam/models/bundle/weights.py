# SPDX-License-Identifier: Apache-2.0
"""Weights in safetensors files: checked from their headers, read tensor by tensor.

One file `model.safetensors`, or shards `model-00001-of-00003.safetensors` with
`model.safetensors.index.json` (the layout of Hugging Face). Nothing is allocated before names, shapes,
dtypes and file sizes have been found right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wam.core.errors import BundleError
from wam.core.file_modes import make_public
from wam.models.bundle.header import TensorInfo, read_header, read_shard_map

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
DEFAULT_SHARD_BYTES = 2 << 30
MOST_NAMES = 60

_DTYPE_OF = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def listed(names: Sequence[str]) -> str:
    """Return names for an error text, at most the first few and the number of the others."""
    shown = ", ".join(names[:MOST_NAMES])
    return f"{shown}, and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown or "none"


@dataclass(frozen=True, slots=True)
class WeightsIndex:
    """All tensors of a bundle.

    Attributes:
        tensors: name -> place.
        headers: the raw headers of the shards in order of their names, for the contract hash.
    """

    tensors: Mapping[str, TensorInfo]
    headers: tuple[bytes, ...]

    def require(
        self, want: Mapping[str, tuple[int, ...]], *, what: str, ignore: tuple[str, ...] = ()
    ) -> None:
        """Demand exactly these names with these shapes.

        Args:
            want: name -> shape.
            what: the network, for the error text.
            ignore: prefixes of names that belong to another part and may be there too.

        Raises:
            BundleError: names or shapes differ; the text names them.
        """
        have = {
            n: i.shape for n, i in self.tensors.items() if n in want or not n.startswith(ignore or ("\0",))
        }
        missing = sorted(set(want) - set(have))
        unexpected = sorted(set(have) - set(want))
        misshapen = [
            f"{n} is {have[n]}, not {want[n]}" for n in sorted(set(want) & set(have)) if have[n] != want[n]
        ]
        if missing or unexpected or misshapen:
            raise BundleError(
                f"the weights do not fit {what}: {len(missing)} missing ({listed(missing)}), "
                f"{len(unexpected)} unexpected ({listed(unexpected)}), "
                f"{len(misshapen)} of another shape ({listed(misshapen)})",
                where="the model section of policy.yaml, or the checkpoint that was converted",
            )

    def require_dtype(self, dtype: str, *, names: Iterable[str]) -> None:
        """Demand that tensors are stored in the precision that the manifest names.

        Raises:
            BundleError: a tensor has another dtype.
        """
        for name in names:
            info = self.tensors[name]
            if _DTYPE_OF.get(info.dtype) is not getattr(torch, dtype):
                raise BundleError(
                    f"{info.file.name}: {name} is stored as {info.dtype}",
                    allowed=f"{dtype}, as policy.yaml says",
                    where="dtype in policy.yaml, or convert the checkpoint again",
                )


def weight_files(directory: Path) -> tuple[Path, ...]:
    """Return the shards of a bundle in order of their names.

    Raises:
        BundleError: there are none, or the index names a shard that is missing.
    """
    index = directory / INDEX_NAME
    if not index.is_file():
        return (directory / SINGLE_NAME,)
    return tuple(sorted(set(read_shard_map(index).values())))


def open_weights(directory: Path) -> WeightsIndex:
    """Read the headers of all shards of a bundle; no tensor is read.

    Raises:
        BundleError: a file is missing, truncated or damaged, or a tensor is in two shards.
    """
    tensors: dict[str, TensorInfo] = {}
    headers = []
    for path in weight_files(directory):
        header = read_header(path)
        headers.append(header.raw)
        for name, info in header.tensors.items():
            if name in tensors:
                raise BundleError(f"{name} is in {tensors[name].file.name} and in {path.name}")
            if info.dtype not in _DTYPE_OF:
                raise BundleError(
                    f"{path.name}: {name} has dtype", value=info.dtype, allowed=f"{sorted(_DTYPE_OF)}"
                )
            tensors[name] = info
    index = directory / INDEX_NAME
    if index.is_file():
        listed = read_shard_map(index)
        if listed != {name: info.file for name, info in tensors.items()}:
            differ = sorted(
                n for n in {*listed, *tensors} if n not in tensors or listed.get(n) != tensors[n].file
            )
            raise BundleError(f"{index} lists other tensors than its shards hold", value=differ[:6])
    return WeightsIndex(tensors, tuple(headers))


def iterate(
    index: WeightsIndex,
    names: Iterable[str],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Read tensors shard by shard, one at a time.

    They are read, not mapped: a file that is replaced while a policy runs must not change its weights or end the
    process, and mapped pages of every shard would count as memory of this process.

    Args:
        index: from `open_weights`.
        names: which tensors.
        device: where they go.
        dtype: what floating tensors become; None keeps theirs.

    Raises:
        BundleError: a file has become shorter since its header was read.
    """
    by_file: dict[Path, list[str]] = {}
    for name in names:
        by_file.setdefault(index.tensors[name].file, []).append(name)
    for path, members in sorted(by_file.items()):
        with path.open("rb") as file:
            for name in sorted(members, key=lambda n: index.tensors[n].offset):
                stored = _read(file, index.tensors[name])
                target = dtype if dtype is not None and stored.is_floating_point() else stored.dtype
                yield name, stored.to(device=device, dtype=target)


def _read(file: BufferedReader, info: TensorInfo) -> Tensor:
    tensor = torch.empty(info.shape, dtype=_DTYPE_OF[info.dtype], device="cpu")
    if tensor.numel():
        room = tensor.view(-1).view(torch.uint8).numpy().data
        file.seek(info.offset)
        if file.readinto(room) != info.nbytes:
            raise BundleError(
                f"{info.file} has become shorter while it was read", where="the bundle; copy it again"
            )
    return tensor


def read_tensors(index: WeightsIndex, *, prefix: str, parts: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix` and then one of `parts`, without the prefix in their names."""
    wanted = tuple(prefix + part for part in parts)
    names = [n for n in index.tensors if n.startswith(wanted)]
    return {name.removeprefix(prefix): tensor for name, tensor in iterate(index, names)}


def load_into(
    module: nn.Module,
    index: WeightsIndex,
    *,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
    name_in_file: Callable[[str], str] = lambda name: name,
) -> None:
    """Fill a module that was built on the meta device, tensor by tensor.

    Host memory stays at the model plus one tensor. Names and shapes must have been checked. Every number is
    looked at, because fused attention can hide a NaN weight from every later check.

    Args:
        module: on the meta device.
        index: from `open_weights`.
        device: where the weights go.
        dtype: what they become; None keeps theirs.
        name_in_file: translates a name of the module to the file's.

    Raises:
        BundleError: a weight is not finite.
    """
    ours = {name_in_file(name): name for name in module.state_dict()}
    for stored_name, tensor in iterate(index, ours, device=device, dtype=dtype):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BundleError(
                f"{index.tensors[stored_name].file.name}: {stored_name} holds numbers that are not finite",
                where="the checkpoint that was converted",
            )
        *path, leaf = ours[stored_name].split(".")
        owner = module.get_submodule(".".join(path))
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
        else:
            owner._buffers[leaf] = tensor


def save_weights(
    directory: Path, tensors: Mapping[str, Tensor], *, max_shard_bytes: int = DEFAULT_SHARD_BYTES
) -> tuple[Path, ...]:
    """Write tensors as one file, or as shards with an index.

    Args:
        directory: exists.
        tensors: name -> tensor; contiguous copies are made where needed.
        max_shard_bytes: a shard is closed before it would exceed this.

    Returns:
        The files written.
    """
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        nbytes = tensor.numel() * tensor.element_size()
        if filled and filled + nbytes > max_shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += nbytes
    if len(shards) == 1:
        _save(shards[0], directory / SINGLE_NAME)
        return (directory / SINGLE_NAME,)
    weight_map: dict[str, str] = {}
    paths = []
    for i, shard in enumerate(shards, start=1):
        path = directory / f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        _save(shard, path)
        weight_map.update(dict.fromkeys(shard, path.name))
        paths.append(path)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / INDEX_NAME).write_text(json.dumps(index, indent=1), encoding="utf-8")
    return tuple(paths)


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    # The library makes it for its owner alone; the robot's computer may run as another user.
    make_public(path)
