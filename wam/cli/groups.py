# SPDX-License-Identifier: Apache-2.0
"""Verbs that have subcommands, one of which may be omitted."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class RunByDefault(TyperGroup):
    """`wam replay BAG` is `wam replay run BAG`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the subcommand `run` where it was omitted."""
        if not args or args[0] not in self.commands:
            args = ["run", *args]
        return list(super().parse_args(ctx, args))
