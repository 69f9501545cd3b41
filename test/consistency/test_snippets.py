# SPDX-License-Identifier: Apache-2.0
"""What README and pages tell to type or to write is possible: it is run here, or its names are looked up in the code.

Every code block is of one of these kinds, and a block of no kind fails:
- RUN: the block is run as it stands, on a small recording;
- a shell block: each command is in CHECKED, whose names are looked up (verbs, options, targets, launch arguments,
  parameters, services), or in NOT_RUN, with the reason;
- Python, YAML, TOML, XML: read, and names of the suite are looked up;
- SHOWN: neither, with the reason.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from remedies import commands, find_command, options_of
from robot_recordings import by_topic, file_with_small_cameras, write_bag
from snippets import ROOT, Block, blocks, inline_codes

from wam.core.extras import MODULES as EXTRAS
from wam.devices.loader import load_robot

RUN: dict[tuple[str, str], dict[str, str]] = {
    ("docs/how-to/python.md", "from wam import api"): {
        "runs/pick": "fake",
        "piper": "piper.yaml",
        "my_package.filters:make_keep_out": "example_filter:make_margin",
    },
    ("docs/how-to/python.md", "wam replay BAG"): {"BAG": "my_bag", "R": "piper.yaml", "P": "fake"},
    ("docs/how-to/check-a-recording.md", "wam info BAG"): {"BAG": "my_bag"},
}
"""Page and beginning of a block -> what stands in the place of the names that a person chooses."""

NOT_RUN = {
    ".ci/run": "runs the whole suite",
    "alias": "of the person's shell",
    "cd": "of the person's shell",
    "chronyc": "needs chrony",
    "docker": "needs docker",
    "cp": "copies files of the person",
    "echo": "of the person's shell",
    "export": "of the person's shell",
    "hf": "downloads gigabytes",
    "lerobot-eval": "needs LeRobot",
    "lerobot-train": "needs LeRobot",
    "mv": "moves files of the person",
    "grep": "looks for names to replace",
    "xargs": "changes files of the person",
    "mkdir": "makes a folder of the person",
    "pixi": "needs pixi and the network",
    "printf": "of the person's shell",
    "rosdep": "needs a ROS distribution",
    "git": "needs the network",
    "sed": "changes files of the person",
    "source": "of the person's shell",
    "sudo": "changes the machine",
    "taskset": "changes the person's processes",
    "torchrun": "needs a data set and hours",
    "touch": "makes a file of the person",
    "ulimit": "looks at the machine",
    "uname": "looks at the machine",
}
"""Programs that stand in shell blocks -> why they are not run here."""

PRINTED = "what a command prints"
SHOWN = {
    ("README.md", "wam/core"): "the layout, which test_layers.py compares",
    ("docs/explanation/dust.md", "block"): "a formula",
    ("docs/explanation/dust.md", "sampler:"): "a section of a bundle beside what it does",
    ("docs/explanation/kernels.md", "x"): "a formula",
    ("docs/how-to/add-a-robot.md", "piper.yaml:40:"): "an error text",
    ("docs/how-to/backends.md", "backend:=auto"): "arguments of launch files",
    ("docs/how-to/convert-a-checkpoint.md", "position"): "a formula",
    ("docs/how-to/convert-a-checkpoint.md", "policy"): PRINTED,
    ("docs/how-to/piper.md", "[Match]"): "a file of systemd",
    ("docs/how-to/real-time.md", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet'): "a line of a file of grub",
    ("docs/how-to/record-demonstrations.md", "112"): PRINTED,
    ("docs/how-to/record-demonstrations.md", "data/demos:"): PRINTED,
    ("docs/how-to/record-demonstrations.md", "nothing"): PRINTED,
    ("docs/how-to/two-computers.md", "local"): "a file of chrony",
    ("docs/tutorials/first-demo.md", "done:"): PRINTED,
    **{
        (f"docs/tutorials/{robot}-from-checkpoint-to-arm.md", word): PRINTED
        for robot, words in {
            "franka": ("cameras", "Would", "[1/1]"),
            "piper": (
                "ck/aha_wam:",
                "instruction",
                "nothing",
                "[1/1]",
                "WARN",
                "[wam_executor]:",
                "success=True,",
            ),
            "ur5e_inspire": ("cameras", "Would", "[1/1]"),
        }.items()
        for word in words
    },
}
"""Page and first word of a block that is neither run nor read -> what it is."""

FRAGMENT = {
    "docs/how-to/add-a-metric.md": "rows and methods, to be put into a table and a class",
    "docs/how-to/add-a-safety-filter.md": "a row",
    "docs/how-to/add-a-task.md": "parts of a module",
}
"""Pages whose Python does not stand alone -> why; it is read, its imports are looked up."""


OF_ALL_VERBS = ("--help", "--version", "--install-completion", "--show-completion")
"""Options of `wam` itself."""


def _wam(words: tuple[str, ...], place: str) -> None:
    path, rest = find_command(list(words[1:]))
    assert path or words[1:2] in ((), ("...",), *((option,) for option in OF_ALL_VERBS)), (
        f"{place}: wam {' '.join(words[1:])}: no such command"
    )
    for word in rest:
        option = word.partition("=")[0]
        if not path and option in OF_ALL_VERBS:
            continue
        if re.fullmatch(r"--[a-z][a-z0-9-]*", option):
            below = [one for name, one in commands().items() if f"{name} ".startswith(f"{path} ")]
            assert any(option in options_of(one) for one in below), f"{place}: wam {path} has no {option}"


def _make(words: tuple[str, ...], place: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words[1:]:
        if "=" in word:
            name = word.partition("=")[0]
            assert re.search(rf"^# {name}=", makefile, re.MULTILINE), f"{place}: make knows no {name}="
        else:
            assert re.search(rf"^{word}:", makefile, re.MULTILINE), f"{place}: there is no make {word}"


def _ros2(words: tuple[str, ...], place: str) -> None:
    if words[1:3] == ("launch", "wam_deploy"):
        source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "wam_bringup").glob("*.py"))
        source += "\n".join(
            path.read_text(encoding="utf-8") for path in (ROOT / "wam" / "devices").rglob("launch.py")
        )
        written = f"`launch/{words[3]}`" in (ROOT / place.partition(":")[0]).read_text(encoding="utf-8")
        assert written or (ROOT / "launch" / words[3]).is_file(), f"{place}: no launch file {words[3]}"
        for name in (word.partition(":=")[0] for word in words[4:] if ":=" in word):
            assert f'"{name}"' in source, f"{place}: launch files have no argument {name}"
    elif words[1:3] == ("run", "wam_deploy"):
        if words[3] == "wam":
            return
        setup = (ROOT / "setup.py").read_text(encoding="utf-8")
        assert words[3] in setup, f"{place}: there is no executable {words[3]}"
        pages = [
            path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference" / "nodes").glob("*.md")
        ]
        page = next(text for text in pages if f"ros2 run wam_deploy {words[3]} " in text)
        for name in (words[n + 1].partition(":=")[0] for n, word in enumerate(words) if word == "-p"):
            known = name == "NAME" or f"\n| `{name}` |" in page
            assert known, f"{place}: {words[3]} has no parameter {name}"
    elif words[1:3] == ("service", "call") and words[3].startswith("/wam_"):
        node, _, name = words[3].strip("/").partition("/")
        page = (ROOT / "docs" / "reference" / "nodes" / f"{node}.md").read_text(encoding="utf-8")
        kind = words[4].replace("/srv/", "/")
        star = re.sub(r"^(arm|left|right|hand|gripper)/", "", name)
        assert f"| `~/{name}` | `{kind}` |" in page or f"/{star}`" in page, (
            f"{place}: {node} has no {name} ({kind})"
        )


def _file(words: tuple[str, ...], place: str) -> None:
    assert (ROOT / words[0].lstrip("./")).exists() or (ROOT / words[0]).exists(), (
        f"{place}: there is no {words[0]}"
    )
    if words[0] == "tools/setup/env.sh" and words[1] in CHECKED:
        CHECKED[words[1]](words[1:], place)


INSTALLED_BY_THE_PAGE = ("build", "colcon")
"""Modules that a page installs itself, before it runs them."""


def _python(words: tuple[str, ...], place: str) -> None:
    if words[1:2] == ("-m",):
        if words[2] == "pip":
            _pip(words[2:], place)
            return
        found = importlib.util.find_spec(words[2].partition(".")[0])
        ours = words[2].partition(".")[0] in ("wam", "tools")
        found = importlib.util.find_spec(words[2]) if ours else found
        assert found or words[2] in INSTALLED_BY_THE_PAGE, f"{place}: there is no module {words[2]}"
    elif words[1:2] and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file(), f"{place}: there is no {words[1]}"


def _pip(words: tuple[str, ...], place: str) -> None:
    for option, file in itertools.pairwise(words):
        if option in ("-r", "-c"):
            # In a workspace the checkout is src/wam_deploy.
            assert (ROOT / file.removeprefix("src/wam_deploy/")).is_file(), f"{place}: there is no {file}"
    for extra in re.findall(r"^(?:\.|(?:src/)?wam_deploy)\[(\w+)\]$", "\n".join(words), re.MULTILINE):
        assert extra in EXTRAS, f"{place}: there is no extra {extra}"


CHECKED: dict[str, Callable[[tuple[str, ...], str], None]] = {
    "wam": _wam,
    ".venv/bin/wam": _wam,
    "make": _make,
    "ros2": _ros2,
    **dict.fromkeys(("python", "python3", ".venv/bin/python"), _python),
    **dict.fromkeys(("pip", ".venv/bin/pip"), _pip),
    ".venv/bin/wam_estop_button": lambda _words, _place: None,
    "tools/setup/env.sh": _file,
    "tools/colcon_build.sh": _file,
}
"""Programs that stand in shell blocks -> what looks their names up."""

SHELL = {*CHECKED, *NOT_RUN}


def is_shell(block: Block) -> bool:
    if block.language in ("sh", "bash", "shell", "console"):
        return True
    words = block.commands[0] if not block.language and block.first_word and _readable(block) else ("",)
    return not block.language and bool(words) and words[0] in SHELL


def _readable(block: Block) -> bool:
    try:
        return bool(block.commands)
    except ValueError:  # an apostrophe: no command
        return False


def kind_of(block: Block) -> str:
    if block.language in ("python", "yaml", "toml", "xml"):
        return block.language
    if (block.page, block.first_word) in SHOWN:
        return "shown"
    if is_shell(block):
        return "shell"
    if block.first_word in ("from", "import"):
        return "python"
    if re.match(r"^[\w./*]+:", block.first_word):
        return "yaml"
    return ""


def of(kind: str) -> list[object]:
    return [pytest.param(one, id=one.place) for one in blocks() if kind_of(one) == kind]


def test_every_code_block_is_run_looked_up_or_known_to_be_only_shown() -> None:
    assert len(blocks()) > 100
    unknown = [f"{one.place}: {one.first_word}" for one in blocks() if not kind_of(one)]
    assert not unknown, "say in this file what these blocks are:\n" + "\n".join(unknown)
    gone = [key for key in SHOWN if key not in {(one.page, one.first_word) for one in blocks()}]
    assert not gone, f"in SHOWN, on no page: {gone}"
    first = {words[0] for one in blocks() if is_shell(one) for words in one.commands}
    unused = [program for program in NOT_RUN if program not in first]
    assert not unused, f"in NOT_RUN, on no page: {unused}"


@pytest.mark.parametrize("block", of("shell"))
def test_the_names_in_a_command_are_those_of_the_code(block: Block) -> None:
    for words in block.commands:
        assert words[0] in SHELL, (
            f"{block.place}: {words[0]}: look it up in CHECKED, or say in NOT_RUN why not"
        )
        if words[0] in CHECKED:
            CHECKED[words[0]](words, block.place)


def test_the_names_in_a_command_within_a_sentence_are_those_of_the_code() -> None:
    found = [one for one in inline_codes() if re.match(r"(wam|make|ros2) [a-z]", one.text)]
    assert len(found) > 200
    wrong = []
    for one in found:
        for words in one.commands if "..." not in one.text else ():
            if words[0] in NOT_RUN:
                continue
            try:
                CHECKED[words[0]](words, one.place)
            except (AssertionError, IndexError) as error:
                wrong.append(str(error) or f"{one.place}: {one.text}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("block", of("python"))
def test_python_is_python_and_its_imports_are_there(block: Block) -> None:
    tree = ast.parse(textwrap.dedent(block.text))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "wam":
            module = importlib.import_module(str(node.module))
            for name in node.names:
                found = hasattr(module, name.name)
                assert found or importlib.import_module(f"{node.module}.{name.name}"), (
                    f"{block.place}: {name.name}"
                )


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_yaml(block: Block) -> None:
    text = textwrap.dedent(block.text).strip()
    only_comments = all(line.startswith("#") for line in text.splitlines())
    assert yaml.safe_load(text) or only_comments, block.place


@pytest.mark.parametrize("block", [*of("toml"), *of("xml")])
def test_toml_and_xml_can_be_read(block: Block) -> None:
    text = textwrap.dedent(block.text)
    if block.language == "toml":
        assert importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli").loads(text)
    else:
        assert ElementTree.fromstring(text).tag


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short recording of the robot that the pages name."""
    made = tmp_path_factory.mktemp("snippets")
    robot = load_robot(str(file_with_small_cameras("piper", made)))
    write_bag(made / "my_bag", robot, by_topic, seconds=3.0)
    return made


@pytest.mark.parametrize(("key", "chosen"), list(RUN.items()), ids=[f"{page}:{start}" for page, start in RUN])
def test_a_block_runs_as_it_stands(key: tuple[str, str], chosen: dict[str, str], folder: Path) -> None:
    page, start = key
    (block,) = [one for one in blocks() if one.page == page and one.text.lstrip().startswith(start)]
    text = textwrap.dedent(block.text)
    for name, value in chosen.items():
        text = re.sub(rf"(?<![\w/.-]){re.escape(name)}(?![\w/.-])", value, text)
    if kind_of(block) == "python":
        command = [sys.executable, "-c", text]
    else:
        wam = f"wam() {{ '{sys.executable}' -m wam.cli.main \"$@\"; }}"
        command = ["bash", "-c", f"{wam}\n{_lines(text)}"]
    paths = os.pathsep.join([str(ROOT / "examples" / "safety_filter"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block.place}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"


def _lines(text: str) -> str:
    """Return shell lines each of which has to succeed, or to end with 2: it ran, and a gate was not met."""
    lines = [line.partition(" #")[0].strip() for line in text.splitlines() if line.strip()]
    return (
        "\n".join(f"{line}; code=$?; [ $code = 0 ] || [ $code = 2 ] || exit $code" for line in lines)
        + "\nexit 0"
    )
