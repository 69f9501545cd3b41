# SPDX-License-Identifier: Apache-2.0
"""Links from the report of each run of a scenario to the run before, the run after, and the scenario's page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from wam.evaluation.replay.scenario import Run
from wam.report.folder import INDEX

_MAIN = "<main>\n"
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
)


def link_runs(folder: Path, runs: Sequence[Run]) -> None:
    """Write the links into the pages of all runs that have one.

    Args:
        folder: of the scenario's report.
        runs: in the order in which they are linked.
    """
    template = _ENVIRONMENT.get_template("run_links.html.j2")
    done = [run for run in runs if not run.error and (folder / run.folder / INDEX).is_file()]
    for number, run in enumerate(done):
        page = folder / run.folder / INDEX
        html = page.read_text(encoding="utf-8")
        navigation = template.render(
            before=_link(done[number - 1]) if number else "",
            after=_link(done[number + 1]) if number + 1 < len(done) else "",
            index=INDEX,
            recording=run.recording,
            variant=run.variant,
            number=number + 1,
            total=len(done),
        )
        page.write_text(html.replace(_MAIN, f"{_MAIN}{navigation}", 1), encoding="utf-8")


def _link(run: Run) -> str:
    return f"../{quote(Path(run.folder).name)}/{INDEX}"
