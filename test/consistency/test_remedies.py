# SPDX-License-Identifier: Apache-2.0
"""What an error text tells a person to change exists: options, commands, arguments, parameters, files, packages."""

from __future__ import annotations

import re

import pytest
from remedies import (
    OPTION,
    OTHER_PROGRAMS,
    QUOTED,
    ROOT,
    Remedy,
    commands,
    error_texts,
    find_command,
    options_of,
)

REPLAY, CONVERT_BAG, CONVERT_LEROBOT = "replay run", "convert bag", "convert lerobot"
READERS = (REPLAY, CONVERT_BAG)

REACHED_FROM: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("wam/data/bag/", READERS),
    ("wam/data/draft/", ("init robot",)),
    ("wam/data/lerobot/resample.py", (CONVERT_BAG,)),
    ("wam/data/lerobot/writer.py", (CONVERT_BAG,)),
    ("wam/data/to_lerobot.py", (CONVERT_BAG,)),
    ("wam/data/lerobot/episode.py", (CONVERT_LEROBOT,)),
    ("wam/data/columns.py", (CONVERT_LEROBOT,)),
    ("wam/data/to_bag.py", (CONVERT_LEROBOT,)),
    ("wam/evaluation/replay/ray.py", ("replay scenario", "eval run")),
    ("wam/evaluation/replay/compare", ("replay compare",)),
    ("wam/evaluation/replay/", (REPLAY,)),
    ("wam/evaluation/metrics/gate.py", (REPLAY, "eval run")),
    ("wam/evaluation/closed_loop/", ("eval run",)),
    ("wam/cli/bag_options.py", READERS),
    ("wam/cli/replay.py", (REPLAY,)),
    ("wam/cli/eval_compare.py", ("eval compare",)),
    ("wam/cli/eval.py", ("eval run",)),
    ("wam/cli/info.py", ("info",)),
    ("wam/cli/init_robot.py", ("init robot",)),
    ("wam/cli/sim_record.py", ("sim record",)),
    ("wam/cli/sim_pictures.py", ("sim picture", "sim gif")),
    ("wam/report/folder.py", (REPLAY, "replay scenario", "eval run")),
)
"""Module -> the commands that reach it; every option that it names is an option of each of them. First match counts."""


OF_OTHER_PROGRAMS = {"--shm-size": "docker", "--nproc-per-node": "torchrun"}
"""Options of other programs, which the text has to name."""


def wheres() -> list[Remedy]:
    return [text for text in error_texts() if text.is_where]


def mark(texts: list[Remedy]) -> list[object]:
    return [pytest.param(text, id=f"{text.file}:{text.line}") for text in texts]


WITH_OPTIONS = [text for text in error_texts() if OPTION.search(OTHER_PROGRAMS.sub("", text.text))]
WITH_COMMANDS = [text for text in error_texts() if re.search(r"\bwam [a-z]+(?= |$|[`;,()])", text.text)]


def test_the_walk_finds_the_errors() -> None:
    assert len(wheres()) > 500
    assert len(WITH_OPTIONS) > 60
    files = {text.file for text in wheres()}
    assert {"wam/data/bag/binding.py", "wam/data/columns.py", "wam/robots/yaml_reader.py"} <= files


@pytest.mark.parametrize("text", mark(WITH_OPTIONS))
def test_an_option_that_an_error_names_is_one_of_the_commands_that_give_the_error(text: Remedy) -> None:
    named = set(OPTION.findall(OTHER_PROGRAMS.sub("", text.text)))
    paths = next((verbs for prefix, verbs in REACHED_FROM if text.file.startswith(prefix)), None)
    for option in named:
        if option in OF_OTHER_PROGRAMS:
            assert OF_OTHER_PROGRAMS[option] in text.text, text.place
            continue
        if paths is None:
            assert any(option in options_of(command) for command in commands().values()), text.place
            continue
        quoted = {word for quote in QUOTED.findall(text.text) for word in OPTION.findall(quote)}
        if option in quoted:
            continue  # of the command in quotes, which the test of commands looks at
        lacking = [path for path in paths if option not in options_of(commands()[path])]
        assert not lacking, f"{text.place}\n{option} is no option of: wam {', wam '.join(lacking)}"


@pytest.mark.parametrize("text", mark(WITH_COMMANDS))
def test_a_command_that_an_error_names_is_there_and_has_the_options(text: Remedy) -> None:
    for quote in re.findall(r"\bwam ([a-z]+(?= |$|[`;,()])[^`;,()]*)", text.text):
        words = quote.split()
        path, rest = find_command(words)
        assert path, f"{text.place}\nwam {words[0]} is no command"
        for option in OPTION.findall(" ".join(rest)):
            assert option in options_of(commands()[path]), f"{text.place}\nwam {path} has no {option}"


def test_arguments_that_errors_name_are_arguments() -> None:
    metavars = {
        str(parameter.metavar or parameter.name).strip("{}[].").upper()
        for command in commands().values()
        for parameter in command.params
        if parameter.param_type_name == "argument"
    }
    for text in wheres():
        for name in re.findall(r"the arguments? ([A-Z]+(?: and [A-Z]+)?)\b", text.text):
            assert set(name.split(" and ")) <= metavars, text.place


def test_parameters_that_errors_name_are_parameters_of_a_node() -> None:
    sources = [path.read_text(encoding="utf-8") for path in ROOT.glob("wam_*/*.py")]
    for folder in ("ros", "runtime", "devices"):
        sources += [path.read_text(encoding="utf-8") for path in (ROOT / "wam" / folder).rglob("*.py")]
    for text in wheres():
        for name in re.findall(r"[Pp]arameters? (?:or parameter )?`([a-z_]+)`", text.text):
            assert any(re.search(rf"^ +{name}: ", source, re.MULTILINE) for source in sources), text.place


def test_make_targets_that_errors_name_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = [(name, text) for text in error_texts() for name in re.findall(r"`make ([a-z-]+)", text.text)]
    assert found
    for name, text in found:
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), text.place


def test_files_of_the_suite_that_errors_name_are_there() -> None:
    found = []
    for text in error_texts():
        for name in re.findall(
            r"(?<![\w/{}])((?:docs|tools|requirements|config|launch)/[\w./-]*)", text.text
        ):
            found.append(name)
            assert (ROOT / name.rstrip("./")).exists() or (ROOT / name.rstrip(".")).exists(), text.place
    assert len(found) > 5


def test_no_error_names_a_package_to_install_but_through_the_table_of_extras() -> None:
    """Each module said in its own words what to install, some of them without the version that is tested."""
    named = [text.place for text in error_texts() if "pip install" in text.text]
    assert not [place for place in named if not place.startswith("wam/core/extras.py")]
