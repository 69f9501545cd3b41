# SPDX-License-Identifier: Apache-2.0
"""Contexts whose every element says which publication they are, and a second process to hand them to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wam.core.context import ContextHeader, PlannerContext
from wam.core.transport.numpy_codec import NumpyCodec

MakeContext = Callable[..., PlannerContext[Any]]


def make_header(version: int, generation: int = 1) -> ContextHeader:
    """Return a header whose stamp follows from its numbers."""
    return ContextHeader(
        stamp_ns=generation * 1_000_000 + version,
        generation=generation,
        version=version,
        contract_hash="a" * 64,
        instruction="stack the cups",
        horizon_rows=64,
        control_period_ns=33_333_333,
    )


@pytest.fixture
def codec() -> NumpyCodec:
    """Codec of the contexts below."""
    return NumpyCodec(bfloat16=frozenset({"v"}))


@pytest.fixture
def header() -> Callable[..., ContextHeader]:
    """Function (version, generation=1) -> header."""
    return make_header


@pytest.fixture
def context() -> MakeContext:
    """Function (version, generation=1, rows=5) -> context whose tensors hold 100 * generation + version."""

    def make(version: int, generation: int = 1, rows: int = 5) -> PlannerContext[Any]:
        mark = 100 * generation + version
        payload = {
            "k": np.full((2, rows, 3), mark, dtype=np.float32),
            "v": np.full((2, rows, 3), mark, dtype=np.uint16),
        }
        return PlannerContext(make_header(version, generation), payload)

    return make


class Peer:
    """A process that publishes and reads shared-memory contexts as it is told (peer.py)."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("peer.py")), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        )

    def ask(self, command: str, **arguments: Any) -> Any:
        """Send one command and wait for its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the peer process died"
        return json.loads(line)

    def kill(self) -> None:
        """Kill the process as `kill -9` does, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Callable[[], Peer]]:
    """Function that starts another process around the same directory of segments."""
    started: list[Peer] = []

    def start() -> Peer:
        started.append(Peer(tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.close()
