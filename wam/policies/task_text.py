# SPDX-License-Identifier: Apache-2.0
"""The task text of a converted bundle, where the command line gave none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from wam.models.bundle import Bundle


def warn_of_task(bundle: Bundle, given: str) -> None:
    """Tell on stderr which task text a new bundle has taken, where nobody gave one.

    Args:
        bundle: just written.
        given: the text that was given; "" for none.
    """
    if given:
        return
    text = bundle.manifest.instruction
    Console(stderr=True).print(
        f"[yellow]warning:[/yellow] no --instruction: the policy is told “{escape(text)}” until an operator gives "
        "another text; convert again with that of the training data",
        soft_wrap=True,
        highlight=False,
    )
