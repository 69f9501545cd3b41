# SPDX-License-Identifier: Apache-2.0
"""One replay from recording to report folder."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wam.core.errors import ContractMismatch
from wam.core.policy import LoadedPolicy
from wam.data.bag.binding import bind
from wam.data.bag.clock_fit import corrections
from wam.data.bag.reading import Recording
from wam.evaluation.metrics.figures import Figures, compute_figures
from wam.evaluation.replay.engine import ReplayOptions
from wam.evaluation.replay.feeding import Feeding, MakeEngine, Progress
from wam.evaluation.replay.page import build_page
from wam.evaluation.replay.rerun import require_rerun, require_rrd, write_rerun
from wam.evaluation.replay.summary import build_summary, build_timing
from wam.evaluation.replay.timeline import write_timeline
from wam.report.folder import (
    EVENTS,
    INDEX,
    SUMMARY,
    TIMELINE,
    TIMING,
    report_folder,
    require_free,
    write_json,
)
from wam.robots.description import RobotDescription
from wam.runtime.policy import require_fit


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """What a replay came to.

    Attributes:
        summary: content of summary.json.
        timing: content of timing.json.
        figures: every figure, with the checked gate and the verdict.
        page: path of index.html, or of summary.json where no page was asked for.
        latencies: "l_prefill" and "l_chunk" of every call on this host [ms].
        stopped: whether it was stopped before the end of the recording.
    """

    summary: dict[str, Any]
    timing: dict[str, Any]
    figures: Figures
    page: Path
    latencies: Mapping[str, tuple[float, ...]]
    stopped: bool = False

    @property
    def passed(self) -> bool:
        """Whether no threshold failed and the policy was not at fault."""
        return self.figures.passed


def replay(
    options: ReplayOptions,
    *,
    robot: RobotDescription,
    policy: LoadedPolicy,
    report: Path,
    progress: Progress = lambda done, total: None,
    make_engine: MakeEngine | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> ReplayOutcome:
    """Replay a recording and write its report.

    Args:
        options: what and how.
        robot: robot of the recording.
        policy: both halves.
        report: folder of the report: absent, empty, or an earlier report.
        progress: called with messages done and messages in all.
        make_engine: makes the engine; None runs both cycles on the recording's clock.
        stopped: asked at every message whether to end; the report then is of what was replayed until then.

    Raises:
        KeyboardInterrupt: it was stopped before the first chunk; nothing is written.
        RecordingError: the recording cannot be used; nothing is written.
        ConfigError: the report folder is taken, the gate names an unknown metric, or the file for rerun does not end in
            .rrd; nothing is written.
        ContractMismatch: policy and robot do not fit.
    """
    require_free(report)
    if options.rerun is not None:
        require_rrd(options.rerun)
        require_rerun()
    require_fit(policy.contract, robot)
    if policy.contract.environment:
        raise ContractMismatch(
            f"policy {options.policy_name} needs ground truth, and a recording has none",
            allowed="a policy that sees cameras",
            where="the option --policy; wam eval runs it in simulation",
        )
    started, started_cpu = time.perf_counter(), time.process_time()
    clocks = corrections(options.bag, options.clock_offsets, lenient=options.lenient)
    made = Recording(options.bag, lenient=options.lenient, clock_offsets=clocks)
    with made as recording, report_folder(report) as folder:
        binding = bind(recording, robot=robot, contract=policy.contract, names=options.names)
        feeding = Feeding(options, recording, binding, robot, policy, make_engine, stopped)
        with (folder / EVENTS).open("w", encoding="utf-8") as file:
            feeding.run(file, progress)
        wall, processor = time.perf_counter() - started, time.process_time() - started_cpu
        data = feeding.data()
        figures = compute_figures(data, options.gate)
        summary = build_summary(data, figures)
        timing = build_timing(data, wall=wall, processor=processor, peak_rss_mb=_peak_rss_mb())
        write_json(folder / SUMMARY, summary)
        write_json(folder / TIMING, timing)
        write_timeline(folder / TIMELINE, data)
        if options.page:
            (folder / INDEX).write_text(build_page(data, figures, summary, timing), encoding="utf-8")
        if options.rerun is not None:
            write_rerun(options.rerun, data, folder / EVENTS)
    first = report / (INDEX if options.page else SUMMARY)
    latencies = feeding.collector.latencies()
    return ReplayOutcome(summary, timing, figures, first, latencies, stopped=data.stopped)


def _peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
