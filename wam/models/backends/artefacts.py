# SPDX-License-Identifier: Apache-2.0
"""Exported stages on disk: a graph without its weights, and what it was exported from.

    <place>/<stage>.<number>.onnx    graph of the stage for one set of shapes; its weights are the policy's own
    <place>/<stage>.<number>.json    contract, weights, versions, size and SHA-256

A place is the bundle's directory or the user's cache. An artefact is used only if everything in its manifest agrees
with the policy that is loaded; which of them does not is part of the reason for which it is not.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wam.models.backends.backend import StageUnavailable

FORMAT = 1
REMEDY = "export it: wam export POLICY"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A graph that was read and agrees with the policy.

    Attributes:
        graph: serialised ONNX model.
        weights: name in the graph -> name of the stage's parameter or buffer.
        digest: SHA-256 of the graph.
        parameters: SHA-256 of the stage's weights.
    """

    graph: bytes
    weights: Mapping[str, str]
    digest: str
    parameters: str


class ArtefactStore:
    """Finds and writes the artefacts of one policy.

    Args:
        contract: hash of the bundle's contract.
        places: folders to look in, the last one first; what is written goes to that one, which also keeps the
            quarantine.
        versions: of everything that a graph depends on.
        runtime: version of what runs the graphs; one that another version has refused is judged anew.
    """

    def __init__(
        self, contract: str, places: Sequence[Path], *, versions: Mapping[str, str], runtime: str = ""
    ) -> None:
        self._contract, self._places, self._versions = contract, tuple(places), dict(versions)
        self._runtime = runtime

    @property
    def target(self) -> Path:
        """Where artefacts are written."""
        return self._places[-1]

    def read(self, name: str, module: nn.Module) -> Artefact:
        """Return the artefact called `name`.

        Raises:
            StageUnavailable: there is none, or it is damaged, in quarantine, or of another policy or version.
        """
        refused: StageUnavailable | None = None
        # Gigabytes: hashed once, and only where all else agrees.
        parameters = functools.cache(lambda: weights_digest(module))
        # What a person has exported comes before what came with the bundle.
        for place in reversed(self._places):
            if (place / f"{name}.json").is_file():
                try:
                    return self._read(place, name, parameters)
                except StageUnavailable as error:
                    refused = refused or error
        raise refused or StageUnavailable(f"it has not been exported; {REMEDY}")

    def _read(self, place: Path, name: str, parameters: Callable[[], str]) -> Artefact:
        try:
            manifest = json.loads((place / f"{name}.json").read_text(encoding="utf-8"))
            graph = (place / f"{name}.onnx").read_bytes()
            size, digest = int(manifest["size"]), str(manifest["sha256"])
            weights = {str(k): str(v) for k, v in manifest["weights"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StageUnavailable(f"{place / name}.json cannot be read ({error}); {REMEDY}") from error
        if len(graph) != size:
            raise StageUnavailable(
                f"{place / name}.onnx is truncated: {len(graph)} of {size} bytes; {REMEDY}"
            )
        if hashlib.sha256(graph).hexdigest() != digest:
            raise StageUnavailable(f"{place / name}.onnx is damaged: its SHA-256 is another; {REMEDY}")
        wanted = {what: lambda value=value: value for what, value in self._made_for().items()}
        for what, want in {**wanted, "parameters": parameters}.items():
            if manifest.get(what) != want():
                raise StageUnavailable(
                    f"{place / name}.onnx was exported for {what} {_short(manifest.get(what))}, "
                    f"this is {_short(want())}; {REMEDY}"
                )
        artefact = Artefact(graph, weights, digest, parameters())
        quarantine = self._quarantine(artefact.digest, artefact.parameters)
        if quarantine.is_file():
            raise StageUnavailable(f"it was refused before ({quarantine.read_text('utf-8')}); {REMEDY}")
        return artefact

    def write(self, name: str, module: nn.Module, *, graph: bytes, weights: Mapping[str, str]) -> Path:
        """Write an artefact, so that a reader finds all of it or none."""
        place = self._places[-1]
        place.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(graph).hexdigest()
        parameters = weights_digest(module)
        manifest = {
            **self._made_for(),
            "parameters": parameters,
            "size": len(graph),
            "sha256": digest,
            "weights": dict(weights),
        }
        self._quarantine(digest, parameters).unlink(missing_ok=True)
        replace_file(place / f"{name}.onnx", graph)
        replace_file(place / f"{name}.json", json.dumps(manifest, indent=1).encode("utf-8"))
        return place / f"{name}.onnx"

    def refuse(self, artefact: Artefact, reason: str) -> bool:
        """Put a graph with its weights into quarantine: they are not used again until they have been exported again.

        Returns:
            Whether that could be written.
        """
        try:
            self._places[-1].mkdir(parents=True, exist_ok=True)
            replace_file(self._quarantine(artefact.digest, artefact.parameters), reason.encode("utf-8"))
        except OSError:
            # A cache that cannot be written costs the gate's time at the next start, nothing else.
            return False
        return True

    def _quarantine(self, digest: str, parameters: str) -> Path:
        # A graph has no weights of its own: with others, or run by another version, it may be right.
        refused = hashlib.sha256(f"{digest} {parameters} {self._runtime}".encode()).hexdigest()
        return self._places[-1] / f"refused-{refused[:16]}.txt"

    def _made_for(self) -> dict[str, Any]:
        return {"format": FORMAT, "contract": self._contract, "versions": self._versions}


def named_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and stored buffers of a stage by name."""
    return dict(module.state_dict(keep_vars=False))


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 (hex) of names, types, shapes and values of a stage's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named_weights(module).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes: numpy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return str(value)[:12]


def replace_file(path: Path, data: bytes) -> None:
    """Write a file, so that a reader finds all of it or the one before."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(scratch).replace(path)
