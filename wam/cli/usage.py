# SPDX-License-Identifier: Apache-2.0
"""The text of a wrong command line, with what was probably meant. click and typer guess too, each in its own way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from wam.core.suggest import did_you_mean

UNKNOWN_COMMAND = re.compile(r"No such command '(?P<word>[^']*)'")
UNKNOWN_CHOICE = re.compile(r"'(?P<word>[^']*)' is not one of (?P<choices>.+)$")


def usage_text(error: Any) -> str:
    """Return the text of a click error in one line, without its full stop.

    An unknown command, option or choice is followed by the known one that is most like it.
    """
    context: Any = getattr(error, "ctx", None)
    text = str(error.format_message()).rstrip(".").replace("Value error, ", "")  # of pydantic, under typer
    option = getattr(error, "option_name", None)
    if option is not None and type(error).__name__ == "NoSuchOption":
        return f"No such option: {option}" + did_you_mean(option, _options(context))
    command = UNKNOWN_COMMAND.match(text)
    if command is not None and context is not None and hasattr(context.command, "list_commands"):
        return command[0] + did_you_mean(command["word"], context.command.list_commands(context))
    choice = UNKNOWN_CHOICE.search(text)
    if choice is not None:
        return text + did_you_mean(choice["word"], re.findall(r"'([^']*)'", choice["choices"]))
    return text


def _options(context: Any) -> Sequence[str]:
    """Return every option of the command that was called."""
    parameters = context.command.get_params(context) if context is not None else ()
    return [
        word
        for parameter in parameters
        for word in (*parameter.opts, *parameter.secondary_opts)
        if word.startswith("-")
    ]
