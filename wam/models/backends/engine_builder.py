# SPDX-License-Identifier: Apache-2.0
"""Has engines built, each in a child process with a time limit and a log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wam.models.backends.backend import StageUnavailable
from wam.models.backends.engines import EngineKey, EngineRecord, EngineStore, sha256_of
from wam.models.backends.tensorrt_build import BuildAnswer, BuildRequest

BUILD_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class StageGraph:
    """A stage that was exported for a build.

    Attributes:
        name: of the stage and its set of shapes.
        model: ONNX graph, its weights beside it.
        parameters: SHA-256 of the stage's weights, as the bundle has them.
        graph: SHA-256 of the graph without its weights.
        inputs: names of its inputs, in the order of the stage's tensors.
        results: names of its results, in order.
    """

    name: str
    model: Path
    parameters: str
    graph: str
    inputs: tuple[str, ...]
    results: tuple[str, ...]


class EngineBuilder:
    """Builds engines into a store.

    Args:
        store: where they go.
        device: number of the GPU.
        timeout_s: of one build [s].
    """

    def __init__(self, store: EngineStore, *, device: int = 0, timeout_s: float = BUILD_TIMEOUT_S) -> None:
        self._store, self._device, self._timeout_s = store, device, timeout_s

    def build(self, stage: StageGraph, key: EngineKey) -> EngineRecord:
        """Build one engine, or give one of the same graph the stage's weights.

        Raises:
            StageUnavailable: it cannot be built; the text names the log.
        """
        source = self._store.refit_source(stage.name, key)
        if source is not None:
            try:
                return self._made(stage, key, refit=source)
            except StageUnavailable:
                # A new build needs nothing of the old engine.
                pass
        return self._made(stage, key, refit=None)

    def _made(self, stage: StageGraph, key: EngineKey, *, refit: Path | None) -> EngineRecord:
        work = stage.model.parent
        engine, answer, request = (work / f"{stage.name}.{kind}" for kind in ("engine", "answer", "request"))
        BuildRequest(
            model=str(stage.model),
            engine=str(engine),
            answer=str(answer),
            timing_cache=str(self._store.place / f"timing-{key.tensorrt}-{_plain(key.gpu)}.cache"),
            level=key.settings.level,
            refittable=key.settings.refittable,
            refit=str(refit or ""),
            device=self._device,
        ).write(request)
        log = self._store.place / "logs" / f"{stage.name}.log"
        command = [sys.executable, "-m", "wam.models.backends.tensorrt_build", str(request)]
        run_logged(command, log=log, timeout_s=self._timeout_s, what="the build of its engine")
        made = BuildAnswer.read(answer)
        record = EngineRecord(
            key=key,
            inputs=stage.inputs,
            results=stage.results,
            memory=made.memory,
            size=engine.stat().st_size,
            sha256=sha256_of(engine),
            refitted=refit is not None,
        )
        self._store.take(stage.name, record, engine)
        return record


def run_logged(command: Sequence[str], *, log: Path, timeout_s: float, what: str) -> None:
    """Run a child process to its end, with everything that it says in a log.

    Args:
        command: what to run.
        log: file to write.
        timeout_s: after which it is ended [s].
        what: names it in errors.

    Raises:
        StageUnavailable: it failed, crashed or took too long.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(log, "wb") as file:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=timeout_s, check=False
            )
    except subprocess.TimeoutExpired as error:
        raise StageUnavailable(
            f"{what} took more than {timeout_s:g} s (log: {log}): "
            "wam build-engine --timeout-s with more, or --level with less"
        ) from error
    if done.returncode < 0:
        raise StageUnavailable(
            f"{what} was ended by signal {-done.returncode}, as for want of memory (log: {log})"
        )
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"exit code {done.returncode}"
        raise StageUnavailable(f"{what} failed: {why} (log: {log})")


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)
