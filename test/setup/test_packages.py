# SPDX-License-Identifier: Apache-2.0
"""tools/setup/packages.py: uv gets what pip is configured with, and pip stands behind it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def packages() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "wam_test_packages", ROOT / "tools" / "setup" / "packages.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Commands:
    """Notes commands; those whose first words are `failing` fail."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.seen: list[tuple[str, ...]] = []
        self.variables: list[dict[str, str]] = []

    def __call__(self, command: Sequence[str], log: str, variables: Mapping[str, str]) -> None:
        self.seen.append(tuple(command))
        self.variables.append(dict(variables))
        if Path(command[0]).name in self.failing or any(one in command for one in self.failing):
            raise OSError("no route")


def installer(
    packages: ModuleType,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    *,
    chosen: str = "",
    config: str = "",
    path: str = "",
) -> Any:
    monkeypatch.setattr(packages.Installer, "_pip_config", lambda self: config)
    return packages.Installer(Path("/venv/bin/python"), commands, chosen, {"PATH": path})


def test_the_indexes_and_certificates_of_pip_are_those_of_uv(packages: ModuleType) -> None:
    config = "\n".join(
        (
            "global.index-url='https://mirror/simple'",
            "global.extra-index-url='file:///a/simple\\nfile:///b/simple'",
            "global.find-links='/wheels /more'",
            ":env:.index-url='https://nearer/simple'",
            ":env:.cert='/etc/ca.pem'",
            "global.disable-pip-version-check='1'",
            "list.format='columns'",
        )
    )
    assert packages.uv_environment(config) == {
        "UV_DEFAULT_INDEX": "https://nearer/simple",
        "UV_INDEX": "file:///a/simple file:///b/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_a_setting_that_uv_has_no_word_for_means_pip_and_is_named(
    packages: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = Commands()
    tool = installer(packages, commands, monkeypatch, config="install.require-hashes='true'")
    tool.install(["-r", "base.txt"], "log")
    assert [command[1:4] for command in commands.seen] == [("-I", "-m", "pip")]
    assert "uv cannot be used (require-hashes = true)" in capsys.readouterr().out


def test_uv_comes_from_pypi_where_it_is_not_on_the_path(
    packages: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands()
    tool = installer(packages, commands, monkeypatch, config="global.index-url='https://mirror'")
    tool.install(["-r", "base.txt", "--prefer-binary"], "log", wheels_only=True)
    assert commands.seen[0][-1] == packages.UV_PIN
    assert commands.seen[1] == (
        "/venv/bin/uv", "pip", "install", "--python", "/venv/bin/python", "--only-binary", ":all:",
        "--no-binary=empy", "-r", "base.txt",
    )  # fmt: skip
    assert commands.variables[1]["UV_DEFAULT_INDEX"] == "https://mirror"


def test_a_uv_on_the_path_is_taken(
    packages: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o755)
    commands = Commands()
    tool = installer(packages, commands, monkeypatch, path=str(tmp_path))
    tool.install(["numpy"], "log")
    assert [command[0] for command in commands.seen] == [str(uv)]


@pytest.mark.parametrize("failing", ["uv", "uv==0.13.9"])
def test_pip_installs_what_uv_could_not(
    packages: ModuleType, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    commands = Commands(failing)
    tool = installer(packages, commands, monkeypatch)
    tool.install(["numpy", "--retries", "1"], "log")
    assert commands.seen[-1][1:] == ("-I", "-m", "pip", "install", "--no-input", "numpy", "--retries", "1")


def test_a_chosen_uv_that_fails_is_an_error(packages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands("uv")
    tool = installer(packages, commands, monkeypatch, chosen="uv")
    with pytest.raises(OSError, match="no route"):
        tool.install(["numpy"], "log")


def test_a_chosen_pip_asks_for_no_uv(packages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands()
    tool = installer(packages, commands, monkeypatch, chosen="pip")
    tool.install(["numpy"], "log")
    assert len(commands.seen) == 1
    assert "pip" in commands.seen[0]
