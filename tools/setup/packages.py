# SPDX-License-Identifier: Apache-2.0
"""Installs packages into an environment: with uv (a tenth of the time), or with pip where uv cannot be had or fails.

uv is told what pip is configured with (`pip config`: indexes, local wheels, certificates, constraints), so that both
find the same releases. A pip setting that uv has no word for means pip.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

UV_PIN = "uv==0.13.9"
INSTALLERS = ("uv", "pip")
FROM_SOURCE = ("empy",)
"""Pure Python packages that PyPI has no wheel of; everything else is installed from wheels only."""

SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "proxy": ("ALL_PROXY", " "),
    "no-index": ("UV_NO_INDEX", " "),
}
"""pip's setting -> uv's variable, and what separates its values."""

HARMLESS = {
    "disable-pip-version-check", "no-input", "quiet", "verbose", "progress-bar", "no-color", "require-virtualenv",
    "root-user-action", "break-system-packages", "retries", "no-cache-dir", "cache-dir", "user", "prefer-binary",
    "no-warn-script-location", "no-python-version-warning", "format",
}  # fmt: skip
"""Settings of pip that change nothing in what is installed into a virtual environment."""

LINE = re.compile(r"^(?P<section>[^.=\s]+)\.(?P<key>[^=\s]+)=(?P<value>.*)$")

Run = Callable[[Sequence[str], str, Mapping[str, str]], None]
"""Runs a command with a log name and additional variables; raises an exception of the caller if it fails."""


class UnknownSetting(Exception):
    """pip is configured with something that uv cannot be told."""


def uv_environment(pip_config: str) -> dict[str, str]:
    """Translate the output of `pip config list` into uv's variables.

    Raises:
        UnknownSetting: a setting decides what is installed and has no counterpart.
    """
    found: dict[str, str] = {}
    for line in pip_config.splitlines():
        match = LINE.match(line.strip())
        if match is None:
            continue
        # Sections are in rising order of precedence: global, install, :env:.
        key = match["key"].replace("_", "-").lower()
        if match["section"] not in ("global", "install", ":env:") or key in HARMLESS:
            continue
        try:
            value = str(ast.literal_eval(match["value"]))
        except (SyntaxError, ValueError):
            value = match["value"]
        if key not in SETTINGS:
            raise UnknownSetting(f"{key} = {value}")
        name, separator = SETTINGS[key]
        found[name] = separator.join(value.split())
    # pip takes the best release of all indexes; uv by default stops at the first index that knows the name.
    return {**found, "UV_INDEX_STRATEGY": "unsafe-best-match"}


def uv_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the options of `pip install` that the set-up uses, as uv takes them."""
    taken = [one for one in arguments if one != "--prefer-binary"]
    for flag in ("--retries", "--timeout"):
        if flag in taken:
            place = taken.index(flag)
            del taken[place : place + 2]
    return taken


@dataclass(slots=True)
class Installer:
    """Installs into one environment.

    Attributes:
        python: its interpreter.
        run: runs a command.
        chosen: "uv", "pip", or "" for uv with pip behind it.
        environment: what commands of the set-up run with.
        uv: path of uv; None until it was looked for, "" if it is not to be used.
    """

    python: Path
    run: Run
    chosen: str
    environment: Mapping[str, str]
    uv: str | None = None
    settings: dict[str, str] | None = None

    def install(self, arguments: Sequence[str], log: str, *, wheels_only: bool = False) -> None:
        """Install what `arguments` of `pip install` say.

        Raises:
            Exception: that of `run`, if pip failed as well.
        """
        if self.uv is None:
            self._find_uv()
        if self.uv:
            only = ["--only-binary", ":all:", *(f"--no-binary={name}" for name in FROM_SOURCE)]
            command = [
                self.uv, "pip", "install", "--python", str(self.python), *(only if wheels_only else []),
                *uv_arguments(arguments),
            ]  # fmt: skip
            try:
                self.run(command, log, self.settings or {})
                return
            except Exception as error:
                if self.chosen == "uv":
                    raise
                print(f"note: uv could not install it ({error}); trying pip")
        self.run([str(self.python), "-I", "-m", "pip", "install", "--no-input", *arguments], log, {})

    def _find_uv(self) -> None:
        """Set `uv` and `settings`; where uv cannot be used, say why in one line."""
        self.uv = ""
        if self.chosen == "pip":
            return
        try:
            self.settings = uv_environment(self._pip_config())
            found = shutil.which("uv", path=self.environment.get("PATH", os.defpath))
            if found is None:
                self.run(
                    [str(self.python), "-I", "-m", "pip", "install", "--no-input", "--no-deps", UV_PIN],
                    "uv",
                    {},
                )
                found = str(self.python.parent / "uv")
            self.uv = found
        except Exception as error:
            if self.chosen == "uv":
                raise
            print(f"note: installing with pip, which takes some minutes more: uv cannot be used ({error})")

    def _pip_config(self) -> str:
        return subprocess.run(
            [str(self.python), "-I", "-m", "pip", "config", "list"],
            capture_output=True,
            text=True,
            check=True,
            env=dict(self.environment),
        ).stdout
