# SPDX-License-Identifier: Apache-2.0
"""Prints, as JSON, which names the official TensorRT bindings have, and the signatures in their docstrings.

    python tensorrt_surface.py

Importing them needs no GPU, but libraries of the right names: `test_tensorrt_bindings.py` compiles empty ones.
"""

from __future__ import annotations

import json
import re
import sys


def signatures(text: str) -> list[list[str]]:
    """Return the names of the arguments of every overload, without `self`."""
    found = []
    for line in text.splitlines():
        match = re.match(r"(?:\d+\. )?\w+\(self: .*?\) -> ", line)
        if match:
            names = re.findall(r"(?:\(|, )(\w+): ", match.group())
            found.append([name for name in names if name != "self"])
    return found


def main() -> int:
    """Print the surface."""
    import tensorrt_bindings as trt

    surface = {}
    for name, kind in vars(trt).items():
        if isinstance(kind, type):
            surface[name] = {
                attribute: signatures(str(getattr(kind, attribute).__doc__ or ""))
                for attribute in dir(kind)
                if not attribute.startswith("_") or attribute == "__init__"
            }
    print(json.dumps({"version": trt.__version__, "surface": surface}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
