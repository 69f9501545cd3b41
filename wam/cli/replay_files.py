# SPDX-License-Identifier: Apache-2.0
"""Files that `wam replay` writes besides its report: tables, JUnit XML, Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Export = Annotated[
    Path | None,
    typer.Option(
        help="Also write recorded, executed and commanded motion to this .csv or .parquet file, and every row of every "
        "chunk to one beside it (NAME.chunks.csv).",
        show_default=False,
    ),
]
Junit = Annotated[
    Path | None,
    typer.Option(
        help="Also write this JUnit XML file, a test case per threshold and run.", show_default=False
    ),
]
Markdown = Annotated[
    Path | None,
    typer.Option(help="Also write this Markdown summary, for a pull request.", show_default=False),
]


def require_export(export: Path | None) -> None:
    """Refuse an export of another suffix before anything is run.

    Raises:
        ConfigError: so it is.
    """
    if export is not None:
        from wam.evaluation.replay.export import require_suffix

        require_suffix(export)


def write_files(
    report: Path,
    summary: Mapping[str, Any],
    *,
    export: Path | None = None,
    junit: Path | None = None,
    markdown: Path | None = None,
) -> None:
    """Write what was asked for.

    Raises:
        ConfigError: a file cannot be written.
    """
    from wam.evaluation.replay.ci import write_ci_files

    if export is not None:
        from wam.evaluation.replay.export import export_report

        export_report(report, export)
    write_ci_files(summary, junit=junit, markdown=markdown)


def export(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="Folder of the report of a replay.")],
    out: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Files to write: .csv or .parquet (motion, and chunks beside it), .xml (JUnit), .md (Markdown).",
        ),
    ],
) -> None:
    """Write the tables of a report, or its JUnit XML or Markdown summary, without replaying again.

    Of a scenario's report, only .xml and .md can be written.
    """
    from wam.core.errors import ConfigError
    from wam.evaluation.replay.ci import read_summary
    from wam.evaluation.replay.export import SUFFIXES

    kinds = (*SUFFIXES, ".xml", ".md")
    for path in out:
        if path.suffix not in kinds:
            raise ConfigError(
                f"export {path}", value=path.suffix or "no suffix", allowed=", ".join(kinds), where="FILE"
            )
    summary = read_summary(report)
    for path in out:
        write_files(
            report,
            summary,
            export=path if path.suffix in SUFFIXES else None,
            junit=path if path.suffix == ".xml" else None,
            markdown=path if path.suffix == ".md" else None,
        )
