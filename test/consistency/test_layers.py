# SPDX-License-Identifier: Apache-2.0
"""The layers contract, the layout in README.md, the table in CONTRIBUTING.md and the tree agree."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
CODE_LINE = re.compile(r"^    (wam[\w/]*)(?:  |$)")
FOLDER = re.compile(r"`(wam[\w/]*)`")


def contracts() -> list[dict[str, Any]]:
    """Return the contracts of import-linter."""
    found: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "tool"
    ]["importlinter"]["contracts"]
    return found


def layers() -> list[tuple[str, ...]]:
    """Return the layers from the lowest up; siblings share one."""
    (contract,) = (one for one in contracts() if one["type"] == "layers")
    rows = [tuple(part.strip() for part in row.split("|")) for row in contract["layers"]]
    return rows[::-1]


def ranks() -> dict[str, int]:
    """Return package -> height."""
    return {package: height for height, row in enumerate(layers()) for package in row}


def as_path(package: str) -> str:
    return package.replace(".", "/")


def section(page: str, heading: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    _, _, after = text.partition(f"\n## {heading}\n")
    assert after, f"{page} has no section {heading!r}"
    return after.partition("\n## ")[0]


def module_graph(tree: Any) -> dict[str, set[str]]:
    """Return module -> modules of the product that it imports anywhere in its text, TYPE_CHECKING included."""
    paths = tree.python_files(*tree.packages)
    names = {
        path: ".".join(path.relative_to(tree.root).with_suffix("").parts).removesuffix(".__init__")
        for path in paths
    }
    known = set(names.values())
    graph: dict[str, set[str]] = {}
    for path, name in names.items():
        graph[name] = {one for one in _imported(path) if one in known and one != name}
    return graph


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module: str) -> str:
    """Return `wam.core` for `wam.core.chunk.splice`, and `wam_safety_node` for `wam_safety_node.node`."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "wam" else parts[0]


def rank_of(module: str, heights: dict[str, int]) -> int | None:
    """Return the height of a module's package, None for `wam` itself."""
    return heights.get(package_of(module))


def test_every_package_of_the_product_has_a_layer(tree: Any) -> None:
    packages = {f"wam.{path.parent.name}" for path in (ROOT / "wam").glob("*/__init__.py")}
    packages |= set(tree.packages) - {"wam"}
    assert packages == set(ranks())


def test_no_module_imports_upward(tree: Any) -> None:
    heights = ranks()
    upward = []
    for module, imported in module_graph(tree).items():
        mine = rank_of(module, heights)
        for other in imported:
            theirs = rank_of(other, heights)
            if mine is None or theirs is None or package_of(module) == package_of(other):
                continue
            if theirs >= mine:
                upward.append(f"{module} -> {other}")
    assert not upward, upward


def test_no_modules_import_each_other_in_a_circle(tree: Any) -> None:
    try:
        graphlib.TopologicalSorter(module_graph(tree)).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_layout_in_the_readme_is_the_layers_contract() -> None:
    shown = [m[1] for line in section("README.md", "Layout").splitlines() if (m := CODE_LINE.match(line))]
    wanted = [as_path(package) for row in layers() for package in row]
    assert [one for one in shown if one != "wam_msgs"] == wanted


def test_the_table_in_contributing_is_the_layers_contract_and_its_bans() -> None:
    rows = []
    for line in section("CONTRIBUTING.md", "Layers").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `wam"):
            rows.append((tuple(FOLDER.findall(cells[0])), cells[-1]))
    assert [folders for folders, _ in rows] == [tuple(map(as_path, row)) for row in layers()]
    for folders, bans in rows:
        packages = [folder.replace("/", ".") for folder in folders]
        for external in ("rclpy", "torch"):
            banned = any(is_banned(package, external) for package in packages)
            assert (external in bans) == banned, f"{folders}: {external}"


def is_banned(package: str, external: str) -> bool:
    """Tell whether a contract forbids a whole package to import `external`."""
    return any(
        package in one["source_modules"] and external in one["forbidden_modules"]
        for one in contracts()
        if one["type"] == "forbidden"
    )
