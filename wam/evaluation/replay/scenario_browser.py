# SPDX-License-Identifier: Apache-2.0
"""The episodes of a scenario as a table to browse: pictures, figures, the error over time, and the report of each."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from wam.core.errors import ImageError, RecordingError
from wam.evaluation.metrics.metric import Shown
from wam.evaluation.metrics.table import shown
from wam.evaluation.replay.compare import HEADLINE
from wam.evaluation.replay.events import read_events
from wam.evaluation.replay.page_pictures import PagePicture, pictures_of
from wam.evaluation.replay.scenario import Run
from wam.report.axes import Values
from wam.report.folder import EVENTS, INDEX
from wam.report.page import Embedded, Section, number, picture
from wam.report.plots import thin
from wam.report.tone import Tone

THUMBNAIL_WIDTH = 112
SPARK_WIDTH, SPARK_HEIGHT = 100, 28
SPARK_POINTS = 60


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a row: as it is shown, and what the column is sorted by."""

    text: str
    key: float | str


@dataclass(frozen=True, slots=True)
class Row:
    """One run as a row of the table.

    Attributes:
        recording: its name.
        variant: its name.
        link: path of its report; "" where it could not run.
        pictures: data URIs of the first and the last picture.
        instruction: task text.
        verdict: of the run.
        tone: of the verdict.
        answers: the default gate's two, "" each where it could not run.
        length: of the recording [s].
        figures: in the order of the columns.
        spark: points of the error over time, as an SVG polyline takes them; "" for none.
        error: why it could not run; "" otherwise.
    """

    recording: str
    variant: str
    link: str
    pictures: tuple[str, ...]
    instruction: str
    verdict: str
    tone: str
    answers: tuple[str, str]
    length: Cell
    figures: tuple[Cell, ...]
    spark: str
    error: str = ""


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def browser_section(
    runs: Sequence[Run], folder: Path, *, tones: Mapping[str, Tone], intro: str = ""
) -> Section:
    """Return the table of all runs.

    Args:
        runs: of the scenario.
        folder: in which their reports lie.
        tones: verdict -> its colour.
        intro: what the verdict of a run means.
    """
    rows = browse(runs, folder, tones=tones)
    html = _ENVIRONMENT.get_template("scenario_browser.html.j2").render(
        rows=rows,
        variants=len({row.variant for row in rows}) > 1,
        columns=[metric.name for metric in shown(Shown.RUNS)],
        width=SPARK_WIDTH,
        height=SPARK_HEIGHT,
    )
    return Section(
        "Episodes",
        (Embedded(html),),
        intro="Click on a heading to sort, on a picture or a name to open the report; in it, the keys p and n go to "
        f"the previous and the next. Pictures are the first and the last of the first camera. {intro}".rstrip(),
    )


def browse(runs: Sequence[Run], folder: Path, *, tones: Mapping[str, Tone]) -> tuple[Row, ...]:
    """Return one row per run; see `browser_section`."""
    errors = [_errors(folder / run.folder) if not run.error else None for run in runs]
    tops = [float(np.nanmax(one[1])) for one in errors if one is not None and np.isfinite(one[1]).any()]
    return tuple(
        _row(run, folder, error, max(tops, default=0.0), tones)
        for run, error in zip(runs, errors, strict=True)
    )


def _row(
    run: Run, folder: Path, errors: tuple[Values, Values] | None, top: float, tones: Mapping[str, Tone]
) -> Row:
    names = [metric.name for metric in shown(Shown.RUNS)]
    if run.error:
        return Row(
            run.recording,
            run.variant,
            "",
            (),
            "",
            "could not run",
            Tone.BAD.value,
            ("", ""),
            _cell(None),
            tuple(_cell(None) for _ in names),
            "",
            run.error,
        )
    summary = run.summary
    verdict, tone = summary["verdict"], tones.get(summary["verdict"], Tone.PLAIN)
    return Row(
        run.recording,
        run.variant,
        quote(f"{run.folder}/{INDEX}"),
        thumbnails(pictures_of(folder / run.folder / INDEX)),
        summary["settings"]["instruction"],
        verdict,
        tone.value,
        (summary["answers"]["safe"]["answer"], summary["answers"]["like"]["answer"]),
        Cell(f"{summary['recording']['duration_s']:.1f}", summary["recording"]["duration_s"]),
        tuple(_cell(summary["metrics"][name]) for name in names),
        "" if errors is None else spark(*errors, top=top),
    )


def _cell(value: float | None) -> Cell:
    return Cell("–", "") if value is None else Cell(number(value), value)


def _errors(report: Path) -> tuple[Values, Values] | None:
    try:
        scores = list(read_events(report / EVENTS, "score"))
    except RecordingError:
        return None
    if len(scores) < 2:
        return None
    times = np.array([score["stamp_ns"] for score in scores], dtype=np.float64)
    values = np.array([math.nan if score[HEADLINE] is None else score[HEADLINE] for score in scores])
    return times, values


def spark(times: Values, values: Values, *, top: float) -> str:
    """Return a line as points of an SVG polyline.

    Args:
        times: float64 [T].
        values: float64 [T]; NaN are left out.
        top: value at the upper edge, the same for all lines that are compared.
    """
    known = np.isfinite(values)
    if known.sum() < 2 or top <= 0 or times[-1] <= times[0]:
        return ""
    x, y = thin(times[known], values[known], SPARK_POINTS)
    across = 1 + (SPARK_WIDTH - 2) * (x - times[0]) / (times[-1] - times[0])
    down = 1 + (SPARK_HEIGHT - 2) * (1 - np.clip(y / top, 0.0, 1.0))
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))


def thumbnails(pictures: Sequence[PagePicture]) -> tuple[str, ...]:
    """Return data URIs of the first and the last picture of the first camera, small."""
    mine = [one for one in pictures if one.camera == pictures[0].camera]
    ends = mine if len(mine) < 2 else [mine[0], mine[-1]]
    return tuple(source for one in ends if (source := _small(one.source)))


def _small(source: str) -> str:
    try:
        coded = base64.b64decode(source.partition(",")[2], validate=True)
        pixels = cv2.imdecode(np.frombuffer(coded, dtype=np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            return ""
        rgb = np.ascontiguousarray(pixels[..., ::-1]).astype(np.uint8, copy=False)
        return picture(rgb, caption="", width=THUMBNAIL_WIDTH).source
    except (ValueError, cv2.error, ImageError):
        return ""
