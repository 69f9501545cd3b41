# SPDX-License-Identifier: Apache-2.0
"""The tree as plain values, for tests that hold its parts together."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = (
    "wam", "wam_planner_node", "wam_executor_node", "wam_safety_node", "wam_sim_node", "wam_driver_node",
    "wam_bringup",
)  # fmt: skip
"""The Python packages of the suite."""
SCRIPTS = ("tools", "launch", "benchmarks", "examples", "lerobot_env_wam")
"""Folders with Python files that are no packages of the suite."""
EXAMPLES = ("example_policy", "example_filter", "lerobot_env_wam")
"""Packages of their own below examples/ and lerobot_env_wam/, which import themselves."""
SUPPORT = {path.stem for path in (ROOT / "test" / "support").glob("*.py")}
"""Modules that tests of several folders share; pytest puts them on the import path."""


class Tree:
    """The checkout."""

    root = ROOT
    packages = CODE

    def python_files(self, *folders: str) -> list[Path]:
        """Return the Python files of `folders`; without any, those of the packages, scripts, tests and the root."""
        places = folders or (*CODE, *SCRIPTS, "test")
        found = [path for folder in places for path in (ROOT / folder).rglob("*.py")]
        return sorted(found + ([] if folders else list(ROOT.glob("*.py"))))

    def imports(self, path: Path) -> set[str]:
        """Return the absolute names of the modules that a file imports, at any depth of the code."""
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
        return names

    def external_imports(self, *folders: str) -> dict[str, set[Path]]:
        """Return the top names that are neither standard nor ours, with the files that import them."""
        found: dict[str, set[Path]] = {}
        for path in self.python_files(*folders):
            for name in self.imports(path):
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in (*CODE, *EXAMPLES, *SUPPORT):
                    found.setdefault(top, set()).add(path.relative_to(ROOT))
        return found

    def tracked_files(self) -> list[Path]:
        """Return the files that git tracks; outside a checkout there are none, and the test is skipped."""
        done = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip("not a git checkout")
        return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def tree() -> Tree:
    return Tree()
