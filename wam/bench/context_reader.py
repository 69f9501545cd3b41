# SPDX-License-Identifier: Apache-2.0
"""The reading process of the shared-memory bench: a handle a line in, the time of use a line out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from wam.bench.contexts import CODEC, Payload, from_line, use
from wam.core.transport.shared_memory import SharedMemoryReader


def main() -> None:
    """Answer every handle with the moments it arrived, its tensors were usable, and the reading ended [ns].

    A line that begins with "all " asks for a read of every element.
    """
    reader: SharedMemoryReader[Any] = SharedMemoryReader(CODEC, directory=Path(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        arrived = time.monotonic_ns()
        read_all = line.startswith("all ")
        header, handle = from_line(line.removeprefix("all "))
        with reader.open(header, handle) as lease:
            payload = lease.get().payload
            use(payload)
            usable = time.monotonic_ns()
            if read_all:
                _read(payload)
            ended = time.monotonic_ns()
            del payload
        print(arrived, usable, ended, flush=True)


def _read(payload: Payload) -> None:
    for tensor in payload.values():
        tensor.max()


if __name__ == "__main__":
    main()
