# SPDX-License-Identifier: Apache-2.0
"""Rules that no linter knows: licence headers, file lengths, nothing unpickled or evaluated, no wishes in the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

SOURCE_SUFFIXES = {".py", ".sh", ".cmake", ".xml", ".xacro", ".srdf", ".yaml", ".toml", ".cfg", ".j2", ".js"}
LICENCE = "SPDX-License-Identifier: Apache-2.0"
LICENCE_LINES = 5
WRITTEN_BY_US = ("test/fixtures/older/", "wam/policies/shipped/")
"""Files as the suite wrote them, byte for byte; the README or model card there names the licence."""
HARD_LIMIT, SOFT_LIMIT = 600, 400
UNSAFE_CALLS = {"eval", "exec"}
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def relative(tree: Any, path: Path) -> str:
    return str(path.relative_to(tree.root))


def test_every_source_file_names_its_licence(tree: Any) -> None:
    lacking = [
        relative(tree, path)
        for path in tree.tracked_files()
        if (path.suffix in SOURCE_SUFFIXES or path.name in ("Makefile", "CMakeLists.txt"))
        and not relative(tree, path).startswith(WRITTEN_BY_US)
        and LICENCE not in "\n".join(path.read_text(encoding="utf-8").splitlines()[:LICENCE_LINES])
    ]
    assert not lacking, f"no `{LICENCE}` in the first lines of {lacking}"


def test_every_other_file_has_its_licence_named_for_it(tree: Any) -> None:
    """CONTRIBUTING.md said that every file names it; messages, pages and pictures did not."""
    (block,) = re.findall(
        r"^path = \[(.*?)^\]", (tree.root / "REUSE.toml").read_text(), re.DOTALL | re.MULTILINE
    )
    patterns = [
        re.compile(re.escape(one).replace(r"\*\*", ".*").replace(r"\*", "[^/]*"))
        for one in re.findall(r'"(.+?)"', block)
    ]
    lacking = [
        relative(tree, path)
        for path in tree.tracked_files()
        if LICENCE.encode() not in b"\n".join(path.read_bytes().splitlines()[:LICENCE_LINES])
        and not any(one.fullmatch(relative(tree, path)) for one in patterns)
    ]
    assert not lacking, f"neither in the file nor in REUSE.toml: {lacking}"


def test_no_file_is_longer_than_a_reader_can_hold(tree: Any) -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in tree.python_files()}
    assert not [f"{relative(tree, p)}: {n}" for p, n in lengths.items() if n > HARD_LIMIT]
    long = [f"{relative(tree, p)}: {n}" for p, n in lengths.items() if n > SOFT_LIMIT]
    share = len(long) / len(lengths)
    assert share < 0.05, f"more than one file in twenty is past {SOFT_LIMIT} lines: {long}"


def test_no_two_classes_of_the_product_share_a_name(tree: Any) -> None:
    """`Measured`, `Stage` and `Judged` each meant two or three things, and a search found them all."""
    places: dict[str, list[str]] = {}
    for path in tree.python_files(*tree.packages):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(relative(tree, path))
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_nothing_is_unpickled_or_evaluated(tree: Any) -> None:
    found = []
    for path in tree.python_files():
        code = ast.parse(path.read_text(encoding="utf-8"))
        found += [f"{relative(tree, path)}: {name}" for name in tree.imports(path) if name in UNSAFE_MODULES]
        for node in ast.walk(code):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
                found.append(f"{relative(tree, path)}:{node.lineno}: {node.func.id}()")
            if isinstance(node.func, ast.Attribute):
                found += [f"{relative(tree, path)}:{node.lineno}: {fault}" for fault in _unsafe_method(node)]
    assert not found, found


def _unsafe_method(call: ast.Call) -> list[str]:
    """Name torch.load and numpy.load calls that may unpickle, and YAML loaders that may run code."""
    assert isinstance(call.func, ast.Attribute)
    owner = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    name = f"{owner}.{call.func.attr}"
    if name == "torch.load" and getattr(keywords.get("weights_only"), "value", None) is not True:
        return ["torch.load without weights_only=True"]
    if name in ("np.load", "numpy.load") and getattr(keywords.get("allow_pickle"), "value", None) is True:
        return [f"{name} with allow_pickle"]
    if name in ("yaml.unsafe_load", "yaml.full_load"):
        return [name]
    loader = keywords.get("Loader", call.args[1] if len(call.args) > 1 else None)
    if name == "yaml.load" and loader is None:
        return ["yaml.load without a loader"]
    return []


def test_torch_reads_foreign_weights_in_one_module(tree: Any) -> None:
    """The optimiser's state, which training wrote itself, is the one other thing that torch reads."""
    callers = {
        relative(tree, path)
        for path in tree.python_files("wam")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    }
    assert callers <= {"wam/models/container.py", "wam/training/checkpoint.py"}


def test_every_subscription_of_a_node_passes_the_guard(tree: Any) -> None:
    """Each node subscribed by itself, and what a callback raised ended the node.

    Emergency stops have a listener of their own, where nothing is refused and every failure is a STOP.
    """
    callers = {
        relative(tree, path)
        for path in tree.python_files("wam/ros", *(name for name in tree.packages if name != "wam"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "create_subscription"
    }
    assert callers == {"wam/ros/inputs.py", "wam_safety_node/estop.py"}


DRAFTS = {
    "wam/robots/yaml_reader.py",
    "test/cli/test_init_robot.py",
    "test/cli/test_remedies_data_sets.py",
    "test/robots/test_file_schema.py",
    "test/robots/test_replay_only.py",
    "test/support/robot_file_texts.py",
}
"""Files that hold the mark of what a draft of a robot file leaves open."""


def test_the_code_holds_no_wishes(tree: Any) -> None:
    wish = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    own = Path(__file__)
    found = [
        relative(tree, p)
        for p in tree.python_files()
        if p != own and relative(tree, p) not in DRAFTS and wish.search(p.read_text(encoding="utf-8"))
    ]
    assert not found


def test_tests_are_no_package(tree: Any) -> None:
    assert not list((tree.root / "test").rglob("__init__.py")), (
        "test/ would hide the standard library's `test`"
    )
