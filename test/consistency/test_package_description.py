# SPDX-License-Identifier: Apache-2.0
"""package.xml, setup.py, requirements and the tree tell the same story."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import wam
from wam.cli.main import VERBS
from wam.core.extras import BARE, MODULES, WITH_MODEL
from wam.core.extras import VERBS as VERBS_EXTRAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROS_PACKAGES = {
    "action_msgs", "ament_index_python",
    "builtin_interfaces", "control_msgs", "cv_bridge", "diagnostic_msgs", "geometry_msgs", "launch",
    "launch_ros", "lifecycle_msgs", "moveit_msgs", "rcl_interfaces", "rclpy", "rosgraph_msgs", "sensor_msgs",
    "std_msgs", "std_srvs", "trajectory_msgs", "wam_msgs", "xacro",
}  # fmt: skip
"""Modules that a ROS distribution provides under the same name."""
DISTRIBUTIONS = {
    "rerun": "rerun-sdk",
    "lerobot": None,  # brings its plugins together, and is never installed here: lerobot_env_wam
    "tensorrt_bindings": None,  # official bindings, compared with where they are: WAM_TENSORRT_BINDINGS
    "fake_tensorrt_plan": None,  # beside the fake in test/support
    "packages": None,  # beside it in tools/setup
    "moveit": None,  # moveit_py of a ROS distribution: optional, detected by name
    "PIL": "pillow",
    "markdown_it": "markdown-it-py",
    "OpenGL": "pyopengl",
    "cv2": "opencv-python-headless",
    "pinocchio": "pin",
    "yaml": "pyyaml",
    "serial": "pyserial",
    "backports": "backports-zstd",
    "compression": None,  # the standard library from Python 3.14 on
}
"""Modules whose distribution has another name."""


@pytest.fixture(scope="module")
def described(tree: Any) -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    given: dict[str, Any] = {}
    patch = pytest.MonkeyPatch()
    patch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    patch.chdir(tree.root)
    try:
        runpy.run_path("setup.py")
    finally:
        patch.undo()
    return given


def xml_of(path: Path) -> ET.Element:
    return ET.parse(path).getroot()


def dependencies(path: Path) -> set[str]:
    return {str(node.text) for node in xml_of(path) if node.tag.endswith("depend")}


def pinned(root: Path) -> dict[str, set[str]]:
    """Return the names pinned in each requirements file, normalised."""
    files = {}
    for path in sorted((root / "requirements").glob("*.txt")):
        lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
        names = (re.split(r"[=\[;]", line)[0] for line in lines if line and not line.startswith("-"))
        files[path.stem] = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    return files


def test_the_newest_release_of_the_changelog_and_the_citation_are_of_this_version(tree: Any) -> None:
    """Before the first release the changelog has no number; from then on the newest one is the package's."""
    changelog = (tree.root / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1:2] in ([], [wam.__version__])
    assert f"version: {wam.__version__}\n" in (tree.root / "CITATION.cff").read_text(encoding="utf-8")


def test_all_files_name_the_same_version_and_package(tree: Any, described: dict[str, Any]) -> None:
    root_xml, messages_xml = xml_of(tree.root / "package.xml"), xml_of(tree.root / "wam_msgs" / "package.xml")
    assert root_xml.findtext("version") == described["version"] == wam.__version__
    assert messages_xml.findtext("version") == wam.__version__
    assert root_xml.findtext("name") == described["name"] == "wam_deploy"
    assert messages_xml.findtext("name") == "wam_msgs"


def test_build_types_are_what_colcon_needs(tree: Any) -> None:
    assert xml_of(tree.root / "package.xml").findtext("export/build_type") == "ament_python"
    assert xml_of(tree.root / "wam_msgs" / "package.xml").findtext("export/build_type") == "ament_cmake"
    assert (tree.root / "resource" / "wam_deploy").is_file()


def test_setup_finds_every_folder_with_code_and_nothing_else(tree: Any, described: dict[str, Any]) -> None:
    folders = {
        str(path.parent.relative_to(tree.root)).replace("/", ".")
        for path in tree.python_files(*tree.packages)
        if "__pycache__" not in path.parts
    }
    assert set(described["packages"]) == folders, (
        "a folder with code lacks __init__.py, or the other way round"
    )


def test_every_entry_point_leads_to_a_function(tree: Any, described: dict[str, Any]) -> None:
    entries = dict(entry.split(" = ") for entry in described["entry_points"]["console_scripts"])
    assert {"wam", *tree.packages} <= set(entries)
    for name, target in entries.items():
        module, _, function = target.partition(":")
        path = tree.root / (module.replace(".", "/") + ".py")
        assert path.is_file(), f"{name}: {path} does not exist"
        functions = [
            node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
        ]
        assert function in functions, f"{name}: {path} has no {function}()"


def test_every_file_to_share_is_shared_in_its_place(tree: Any, described: dict[str, Any]) -> None:
    shared = {
        str(Path(target) / Path(name).name): name
        for target, names in described["data_files"]
        for name in names
    }
    wanted = {
        f"share/wam_deploy/{path.relative_to(tree.root)}"
        for top in ("launch", "config", "urdf")
        for path in (tree.root / top).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    own = {"share/wam_deploy/package.xml", "share/ament_index/resource_index/packages/wam_deploy"}
    assert set(shared) == wanted | own


def test_files_beside_the_code_are_installed_with_it(tree: Any, described: dict[str, Any]) -> None:
    data = described["package_data"]
    patterns = [*data[""], *(f"policies/{pattern}" for pattern in data["wam.policies"])]
    for folder in tree.packages:
        for path in (tree.root / folder).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                assert any(path.match(pattern) for pattern in patterns), (
                    f"{path} is in no pattern of package_data"
                )


def test_package_xml_names_the_ros_packages_that_the_code_imports(tree: Any) -> None:
    declared = dependencies(tree.root / "package.xml")
    imported = {name for name in tree.external_imports(*tree.packages, "launch") if name in ROS_PACKAGES}
    assert imported <= declared, f"missing in package.xml: {sorted(imported - declared)}"
    unused = {name for name in declared & ROS_PACKAGES if name not in imported}
    assert not unused, f"in package.xml, imported nowhere: {sorted(unused)}"


def test_every_third_party_import_is_pinned_in_a_requirements_file(tree: Any) -> None:
    direct = set().union(*(names for stem, names in pinned(tree.root).items() if stem != "constraints"))
    for name, files in tree.external_imports().items():
        distribution = DISTRIBUTIONS.get(name, name.lower().replace("_", "-"))
        if name in ROS_PACKAGES or distribution is None:
            continue
        assert distribution in direct, (
            f"{name}, imported by {sorted(map(str, files))[0]}, is in no requirements file"
        )


def test_every_requirement_has_an_exact_version_once_per_python(tree: Any) -> None:
    seen: dict[tuple[str, str], str] = {}
    for path in sorted((tree.root / "requirements").glob("*.txt")):
        for line in path.read_text().splitlines():
            text = line.partition("#")[0].strip()
            if not text or text == "-c constraints.txt":
                continue
            match = re.fullmatch(
                r"([\w.-]+)(\[\w+\])?==([\w.]+)(; python_version (?:<|>=) \"3\.11\"|; platform_system == 'Linux')?",
                text,
            )
            assert match, (
                f"{path.name}: {text!r} is not NAME==VERSION with at most a mark for Python 3.11 or Linux"
            )
            key = (re.sub(r"[-_.]+", "-", match[1]).lower(), match[4] or "")
            assert key not in seen, f"{text!r} is in {path.name} and in {seen[key]}"
            seen[key] = path.name


def test_wam_msgs_builds_every_file_and_declares_what_its_fields_use(tree: Any) -> None:
    folder = tree.root / "wam_msgs"
    text = re.sub(r"#.*", "", (folder / "CMakeLists.txt").read_text())
    listed = set(re.findall(r'"((?:msg|srv|action)/\w+\.\w+)"', text))
    present = {
        str(path.relative_to(folder))
        for kind in ("msg", "srv", "action")
        for path in folder.glob(f"{kind}/*")
    }
    assert listed == present
    used = set()
    for name in present:
        used |= set(re.findall(r"^(\w+)/\w+(?:\[\w*\])?\s", (folder / name).read_text(), re.MULTILINE))
    if any(name.startswith("action/") for name in present):
        used.add("action_msgs")
    block = re.search(r"DEPENDENCIES([^)]*)", text)
    assert block is not None
    assert set(block[1].split()) == used
    declared = {str(node.text) for node in xml_of(folder / "package.xml") if node.tag == "depend"}
    assert declared == used


def test_extras_are_ranges_around_the_pins_of_requirements(tree: Any, described: dict[str, Any]) -> None:
    """`pip install .` succeeded, and then `wam` failed: no dependency was declared."""
    extras = {"": described["install_requires"], **described["extras_require"]}
    assert {"replay", "sim", "train", "gpu", "tensorrt", "drivers", "security", "export", "all"} <= set(
        extras
    )
    pins: dict[str, list[Version]] = {}
    for path in (tree.root / "requirements").glob("*.txt"):
        for name, version in re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)", path.read_text(), re.MULTILINE):
            pins.setdefault(canonicalize_name(name), []).append(Version(version))
    for extra, texts in extras.items():
        for text in texts:
            asked = Requirement(text)
            versions = pins[canonicalize_name(asked.name)]
            assert all(version in asked.specifier for version in versions), f"{extra}: {text}"
            low = next(one.version for one in asked.specifier if one.operator == ">=")
            assert Version(low) == min(versions), f"{extra}: {text} admits a release that no test has seen"
            next_major = Version(f"{max(versions).major + 1}")
            assert next_major not in asked.specifier, f"{extra}: {text} admits the next major release"


def test_every_requirements_file_is_in_an_extra_or_of_the_checkout_only(
    tree: Any, described: dict[str, Any]
) -> None:
    own = {"constraints", "dev", "docs", "gym", "ros"}
    wheel = [described["install_requires"], *described["extras_require"].values()]
    asked = {canonicalize_name(Requirement(text).name) for texts in wheel for text in texts}
    for stem, names in pinned(tree.root).items():
        assert (stem in own) != (names <= asked), f"requirements/{stem}.txt"


def test_the_plugin_of_lerobot_is_found_by_its_name_and_asks_for_what_is_pinned(tree: Any) -> None:
    """LeRobot imports every distribution whose name begins with `lerobot_env_`, by that name."""
    folder = tree.root / "lerobot_env_wam"
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "lerobot_env_wam"
    assert (folder / project["name"] / "__init__.py").is_file()
    assert project["version"] == wam.__version__
    asked = {one.name: one.specifier for one in map(Requirement, project["dependencies"])}
    assert "wam_deploy" in asked
    (version,) = re.findall(
        r"^gymnasium==(\S+)$", (tree.root / "requirements" / "gym.txt").read_text(), re.MULTILINE
    )
    assert version in asked["gymnasium"]
    assert next(one.version for one in asked["gymnasium"] if one.operator == ">=") == version


def test_the_module_table_names_the_extra_that_setup_py_has(described: dict[str, Any]) -> None:
    extras = {BARE: described["install_requires"], **described["extras_require"]}
    names = {
        extra: {canonicalize_name(Requirement(text).name) for text in texts}
        for extra, texts in extras.items()
    }
    for extra, modules in MODULES.items():
        for module in modules:
            distribution = DISTRIBUTIONS.get(module) or module.lower().replace("_", "-")
            assert distribution in names[extra], f"extra {extra!r} does not bring {distribution}"
    for verb, extra in VERBS_EXTRAS.items():
        assert extra in names, f"wam {verb}"
        assert verb in VERBS, f"wam has no {verb}"
    with_model = {extra for extra in names if names["replay"] <= names[extra]}
    assert set(WITH_MODEL) == with_model - {"replay", "all"}


def test_the_page_on_installing_has_every_extra(tree: Any, described: dict[str, Any]) -> None:
    page = (tree.root / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.+?`) \|", page, re.MULTILINE)
    told = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(told) == sorted(described["extras_require"])
    everything = {
        text
        for extra in told
        if extra not in ("gpu", "tensorrt", "all")
        for text in described["extras_require"][extra]
    }
    assert set(described["extras_require"]["all"]) == everything


def test_every_module_that_the_product_imports_from_pypi_is_in_the_table(tree: Any) -> None:
    known = {module for modules in MODULES.values() for module in modules}
    for name, files in tree.external_imports(*tree.packages).items():
        if name not in ROS_PACKAGES and name not in ("moveit", "compression"):
            assert name in known, f"{name}, imported by {sorted(map(str, files))[0]}: wam/core/extras.py"


def test_package_xml_names_the_packages_that_launch_files_start(tree: Any) -> None:
    started = set()
    for path in tree.python_files("launch", "wam_bringup"):
        started |= set(re.findall(r"\bpackage=\"(\w+)\"", path.read_text(encoding="utf-8")))
    assert {"robot_state_publisher", "rviz2", "controller_manager"} <= started
    assert started <= dependencies(tree.root / "package.xml")


@pytest.mark.slow
def test_a_source_distribution_is_the_checkout(tree: Any, tmp_path: Path) -> None:
    """wam_msgs, requirements and docs were missing in it."""
    tracked = {str(path.relative_to(tree.root)) for path in tree.tracked_files()}
    copy = tmp_path / "checkout"
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((tree.root / name).read_bytes())
    code = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True)
    (archive,) = (copy / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        inside = {member.name.partition("/")[2] for member in file.getmembers() if member.isfile()}
    assert not tracked - inside, "MANIFEST.in leaves these out"
    made = {"PKG-INFO"} | {name for name in inside if name.startswith("wam_deploy.egg-info/")}
    assert inside - tracked == made
