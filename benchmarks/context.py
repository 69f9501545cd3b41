# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/context.py [--json]`: the same as `wam bench context`, from a checkout that is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import typer

from wam.cli.bench import bench

if __name__ == "__main__":
    sys.argv.insert(1, "context")
    typer.run(bench)
