# SPDX-License-Identifier: Apache-2.0
"""Engines on disk: compiled stages, and everything that they were compiled from and for.

    <place>/<stage>.<number>-<key>.engine    what TensorRT made
    <place>/<stage>.<number>-<key>.json      the key in full, inputs, results, size and SHA-256

The key is contract, weights, graph, versions, GPU, precision and the builder's settings. An engine is used only if all
of it agrees with what is loaded and where; which part does not is the reason for which it is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wam.models.backends.artefacts import replace_file
from wam.models.backends.backend import StageUnavailable
from wam.models.backends.gpu import GpuFacts

FORMAT = 1
REMEDY = "build it on this machine: wam build-engine POLICY"
BLOCK = 1 << 24


@dataclass(frozen=True, slots=True)
class Settings:
    """How the builder works.

    Attributes:
        level: effort of the search for kernels, 0 to 5.
        refittable: weights can be replaced without a new build, which may cost speed.
    """

    level: int = 3
    refittable: bool = False


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine depends on.

    Attributes:
        contract: hash of the bundle's contract.
        parameters: SHA-256 of the stage's weights, as the bundle has them.
        tensorrt: version.
        gpu: name of the GPU.
        capability: its compute capability.
        precision: of weights and arithmetic: float32, bfloat16 or float16.
        graph: SHA-256 of the stage's graph without its weights.
        settings: of the builder.
    """

    contract: str
    parameters: str
    tensorrt: str
    gpu: str
    capability: tuple[int, int]
    precision: str
    graph: str
    settings: Settings

    @property
    def digest(self) -> str:
        """SHA-256 of all of it (hex)."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def refits(self, other: EngineKey) -> bool:
        """Whether the other engine becomes this one by nothing but other weights."""
        own, theirs = asdict(self), asdict(other)
        for name in ("contract", "parameters"):
            del own[name], theirs[name]
        return own == theirs and self.settings.refittable


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """An engine that is on disk.

    Attributes:
        key: what it depends on.
        inputs: names of its inputs, in the order of the stage's tensors.
        results: names of its results, in order.
        memory: that a run works in [bytes].
        size: of the file [bytes].
        sha256: of the file (hex).
        refitted: it got its weights by a refit.
    """

    key: EngineKey
    inputs: tuple[str, ...]
    results: tuple[str, ...]
    memory: int
    size: int
    sha256: str
    refitted: bool = False


class EngineStore:
    """Finds and writes the engines of one policy on one GPU.

    Args:
        place: folder of engines.
        contract: hash of the bundle's contract.
        tensorrt: version that is installed.
        gpu: where they run.
    """

    def __init__(self, place: Path, *, contract: str, tensorrt: str, gpu: GpuFacts) -> None:
        self.place = place
        self._contract, self._tensorrt, self._gpu = contract, tensorrt, gpu

    def key(self, *, parameters: str, precision: str, graph: str, settings: Settings) -> EngineKey:
        """Return the key of an engine for this policy and GPU."""
        return EngineKey(
            contract=self._contract,
            parameters=parameters,
            tensorrt=self._tensorrt,
            gpu=self._gpu.name,
            capability=self._gpu.capability,
            precision=precision,
            graph=graph,
            settings=settings,
        )

    def find(self, name: str, *, parameters: str) -> tuple[Path, EngineRecord]:
        """Return the engine called `name` for weights of that digest; its file has not been read yet.

        Raises:
            StageUnavailable: there is none, it is of another policy or machine, or was refused before.
        """
        self._require_private()
        records = list(self.records(name))
        if not records:
            raise StageUnavailable(f"it has no engine; {REMEDY}")
        want = {
            "TensorRT": self._tensorrt,
            "GPU": self._gpu.name,
            "compute capability": self._gpu.capability,
            "contract": self._contract,
            "parameters": parameters,
        }
        path, record = min(records, key=lambda one: len(_differences(one[1].key, want)))
        for what, (have, wanted) in _differences(record.key, want).items():
            again = (
                "; a refittable engine takes new weights without a new build" if what == "parameters" else ""
            )
            raise StageUnavailable(f"{path} was built for {what} {have}, this is {wanted}; {REMEDY}{again}")
        quarantine = self._quarantine(record.sha256)
        if quarantine.is_file():
            raise StageUnavailable(f"it was refused before ({quarantine.read_text('utf-8')}); {REMEDY}")
        return path, record

    def read(self, path: Path, record: EngineRecord) -> bytes:
        """Return the engine itself.

        Raises:
            StageUnavailable: it is damaged.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StageUnavailable(f"{path} cannot be read ({error}); {REMEDY}") from error
        if len(data) != record.size:
            raise StageUnavailable(f"{path} is truncated: {len(data)} of {record.size} bytes; {REMEDY}")
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise StageUnavailable(f"{path} is damaged: its SHA-256 is another; {REMEDY}")
        return data

    def records(self, name: str) -> Iterator[tuple[Path, EngineRecord]]:
        """Yield every engine of that name whose manifest can be read, of any policy and machine."""
        for manifest in sorted(self.place.glob(f"{name}-*.json")):
            try:
                yield manifest.with_suffix(".engine"), _record(json.loads(manifest.read_text("utf-8")))
            except (OSError, ValueError, KeyError, TypeError):
                continue

    def refit_source(self, name: str, key: EngineKey) -> Path | None:
        """Return an engine that becomes the wanted one by other weights; None where there is none."""
        for path, record in self.records(name):
            if key.refits(record.key) and path.is_file():
                return path
        return None

    def take(self, name: str, record: EngineRecord, made: Path) -> Path:
        """Move a built engine into its place, so that a reader finds all of it or none.

        Other engines of the same stage, weights and machine (another precision, other settings) are removed: there is
        never a choice between two.
        """
        self.place.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = self.place / f"{name}-{record.key.digest[:16]}.engine"
        self._quarantine(record.sha256).unlink(missing_ok=True)
        for path, other in list(self.records(name)):
            if path != target and _same_use(other.key, record.key):
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
        os.replace(made, target)
        manifest = {"format": FORMAT, **asdict(record)}
        replace_file(target.with_suffix(".json"), json.dumps(manifest, indent=1).encode("utf-8"))
        return target

    def refuse(self, sha256: str, reason: str) -> bool:
        """Put an engine into quarantine: it is not used again until it has been built again.

        Returns:
            Whether that could be written.
        """
        try:
            replace_file(self._quarantine(sha256), reason.encode("utf-8"))
        except OSError:
            # A cache that cannot be written costs the gate's time at the next start, nothing else.
            return False
        return True

    def _quarantine(self, sha256: str) -> Path:
        return self.place / f"refused-{sha256[:16]}.txt"

    def _require_private(self) -> None:
        # An engine is code that runs with the rights of whoever loads it.
        if self.place.is_dir() and self.place.stat().st_mode & stat.S_IWOTH:
            raise StageUnavailable(f"everybody may write to {self.place}: chmod o-w {self.place}")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _differences(key: EngineKey, want: Mapping[str, object]) -> dict[str, tuple[str, str]]:
    have = {
        "TensorRT": key.tensorrt,
        "GPU": key.gpu,
        "compute capability": key.capability,
        "contract": key.contract,
        "parameters": key.parameters,
    }
    return {
        what: (_short(have[what]), _short(wanted)) for what, wanted in want.items() if have[what] != wanted
    }


def _same_use(one: EngineKey, other: EngineKey) -> bool:
    names = ("contract", "parameters", "tensorrt", "gpu", "capability")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return ".".join(str(part) for part in value)
    text = str(value)
    return text[:12] if len(text) == 64 else text


def _record(values: Mapping[str, Any]) -> EngineRecord:
    if values["format"] != FORMAT:
        raise ValueError("another format")
    key = dict(values["key"])
    key["capability"] = tuple(key["capability"])
    key["settings"] = Settings(**key["settings"])
    return EngineRecord(
        key=EngineKey(**key),
        inputs=tuple(values["inputs"]),
        results=tuple(values["results"]),
        memory=int(values["memory"]),
        size=int(values["size"]),
        sha256=str(values["sha256"]),
        refitted=bool(values["refitted"]),
    )
