# SPDX-License-Identifier: Apache-2.0
"""The other process of the shared-memory tests: one JSON command a line in, one answer a line out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from wam.core.context import ContextHandle, ContextHeader, PlannerContext, TensorSpec, Transport
from wam.core.errors import ContextError
from wam.core.transport.numpy_codec import NumpyCodec
from wam.core.transport.shared_memory import SharedMemoryPublisher, SharedMemoryReader


def header_of(version: int, generation: int) -> ContextHeader:
    return ContextHeader(
        stamp_ns=generation * 1_000_000 + version,
        generation=generation,
        version=version,
        contract_hash="a" * 64,
        instruction="stack the cups",
        horizon_rows=64,
        control_period_ns=33_333_333,
    )


class Server:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.codec = NumpyCodec(bfloat16=frozenset({"v"}))
        self.publisher: SharedMemoryPublisher[Any] | None = None
        self.reader: SharedMemoryReader[Any] = SharedMemoryReader(self.codec, directory=directory)
        self.lease: Any = None
        self.view: Any = None

    def publish(self, version: int, generation: int = 1, rows: int = 5) -> Any:
        if self.publisher is None:
            self.publisher = SharedMemoryPublisher(self.codec, directory=self.directory)
        mark = 100 * generation + version
        payload = {
            "k": np.full((2, rows, 3), mark, dtype=np.float32),
            "v": np.full((2, rows, 3), mark, dtype=np.uint16),
        }
        handle = self.publisher.publish(PlannerContext(header_of(version, generation), payload))
        return {
            "name": handle.name,
            "total_bytes": handle.total_bytes,
            "specs": [[s.name, s.dtype, list(s.shape), s.byte_offset] for s in handle.specs],
        }

    def leases(self) -> int:
        assert self.publisher is not None
        return self.publisher.leases()

    def open(self, handle: dict[str, Any], version: int, generation: int = 1) -> list[float]:
        specs = tuple(TensorSpec(n, d, tuple(s), o) for n, d, s, o in handle["specs"])
        value = ContextHandle(Transport.SHARED_MEMORY, handle["name"], specs, handle["total_bytes"])
        self.lease = self.reader.open(header_of(version, generation), value)
        return self.get()

    def get(self) -> list[float]:
        payload = self.lease.get().payload
        return sorted({float(x) for array in payload.values() for x in array.ravel()})

    def hold_view(self) -> bool:
        self.view = self.lease.get().payload["k"]
        return True

    def read_view(self) -> list[float]:
        return sorted({float(x) for x in self.view.ravel()})

    def drop_view(self) -> bool:
        self.view = None
        return True

    def release(self) -> bool:
        self.lease.release()
        return True


def main() -> None:
    server = Server(Path(sys.argv[1]))
    for line in sys.stdin:
        request = json.loads(line)
        command = request.pop("command")
        try:
            answer: Any = getattr(server, command)(**request)
        except ContextError as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
