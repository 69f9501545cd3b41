# SPDX-License-Identifier: Apache-2.0
"""A process that interprets the kernels, asked line by line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

pytest.importorskip("triton", reason="triton is not installed (pip install 'wam_deploy[gpu]')")

SCRIPT = Path(__file__).parents[2] / "support" / "kernel_measurements.py"


class Measure(Protocol):
    """Calls a function of test/support/kernel_measurements.py by name."""

    def __call__(self, name: str, /, **arguments: Any) -> Any: ...


@contextmanager
def answering(script: Path) -> Iterator[Measure]:
    """Run a script that answers as test/support/kernel_measurements.py does."""
    process = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(name: str, /, **arguments: Any) -> Any:
        process.stdin.write(json.dumps({"name": name, "arguments": arguments}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"{name} ended the process; its reason is on the standard error"
        return json.loads(answer)

    yield ask
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="session")
def asked() -> Callable[[Path], AbstractContextManager[Measure]]:
    return answering


@pytest.fixture(scope="session")
def measure() -> Iterator[Measure]:
    with answering(SCRIPT) as ask:
        yield ask
