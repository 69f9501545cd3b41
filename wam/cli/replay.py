# SPDX-License-Identifier: Apache-2.0
"""`wam replay`: evaluate a policy on a recorded episode."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wam.cli.bag_options import (
    STAMPS,
    ActionTopics,
    ClockOffsets,
    Remap,
    TimeBase,
    parse_offsets,
    parse_remap,
    use_stamps,
)
from wam.cli.groups import RunByDefault
from wam.cli.progress import row_progress
from wam.cli.replay_files import Export, Junit, Markdown, require_export, write_files
from wam.cli.replay_files import export as export_files
from wam.core.clock import seconds_to_ns
from wam.core.errors import ConfigError
from wam.core.signals import stop_on_signals
from wam.runtime.schedule import SCHEDULE

if TYPE_CHECKING:
    from wam.evaluation.replay.compare import Comparison

EXIT_COULD_NOT_RUN = 1
EXIT_FAILED_GATE = 2
EXIT_INTERRUPTED = 130
OFFLINE, LIVE = "offline", "live"
PLANNER_LATENCY, EXECUTOR_LATENCY = f"{SCHEDULE.planner_latency:g}", f"{SCHEDULE.executor_latency:g}"


app = typer.Typer(
    cls=RunByDefault, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False
)


@app.callback()
def replay() -> None:
    """Replay a recorded episode through planner and executor as if it were live; writes a report."""


@app.command()
def run(
    bag: Annotated[
        Path,
        typer.Argument(
            metavar="BAG", help="Recording: a rosbag2 folder, or an .mcap, .db3 or ROS 1 .bag file."
        ),
    ],
    robot: Annotated[
        str,
        typer.Option(
            help="Robot that was recorded: a name in config/robots or a YAML file.", show_default=False
        ),
    ],
    policy: Annotated[
        str,
        typer.Option(
            help="Directory of a bundle, or a built-in policy (aha_wam/random, fake).", show_default=False
        ),
    ],
    report: Annotated[
        Path, typer.Option(help="Folder of the report: new, empty, or an earlier report.", show_default=False)
    ],
    instruction: Annotated[
        str,
        typer.Option(help="Task text; default: the recording's, or else the policy's.", show_default=False),
    ] = "",
    gate: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="YAML file with thresholds that replace the default gate; 'none' judges nothing.",
            show_default=False,
        ),
    ] = None,
    planner_latency: Annotated[
        str,
        typer.Option(
            help="Latency of a plan on the recording's clock [s]; "
            "'measured' uses the latency measured on this host."
        ),
    ] = PLANNER_LATENCY,
    executor_latency: Annotated[
        str, typer.Option(help="Latency of a chunk on the recording's clock [s], or 'measured'.")
    ] = EXECUTOR_LATENCY,
    planner_period: Annotated[
        float, typer.Option(help="Minimum time between two plans [s]; 0 plans on every new image.", min=0.0)
    ] = SCHEDULE.planner_period,
    executor_period: Annotated[
        float, typer.Option(help="Time between the starts of two chunks [s].", min=0.005)
    ] = SCHEDULE.executor_period,
    max_context_age: Annotated[
        float,
        typer.Option(
            help="Maximum age of the planner context's image [s]; older contexts are refused.", min=0.01
        ),
    ] = SCHEDULE.max_context_age,
    strategy: Annotated[
        str,
        typer.Option(
            help="How the safety node blends or switches from the previous chunk: "
            "blend, latest, sequential, committed or roll."
        ),
    ] = SCHEDULE.strategy.value,
    extra_filter: Annotated[
        list[str] | None,
        typer.Option(
            help="MODULE:FACTORY of a safety filter from another package; may be repeated.",
            show_default=False,
        ),
    ] = None,
    imagination: Annotated[
        bool,
        typer.Option(
            "--imagination",
            help="Compare what the policy's world model imagines with what came, where that costs extra computing: "
            "AHA-WAM, and --mode live.",
        ),
    ] = False,
    time: TimeBase = STAMPS,
    namespace: Annotated[
        str, typer.Option(help="Namespace of the robot in the recording.", show_default=False)
    ] = "",
    remap: Remap = None,
    action_topic: ActionTopics = None,
    clock_offset: ClockOffsets = None,
    mode: Annotated[
        str,
        typer.Option(
            help="'offline' (on the recording's clock) or 'live' (played to the real nodes over DDS, in real time)."
        ),
    ] = OFFLINE,
    rerun: Annotated[
        Path | None,
        typer.Option(help="Also write this .rrd file for the rerun viewer.", show_default=False),
    ] = None,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Write index.html; without it nothing is filmed.")
    ] = True,
    export: Export = None,
    junit: Junit = None,
    markdown: Markdown = None,
    seed: Annotated[int, typer.Option(help="Seed of the policy's noise.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="Device of the policy, e.g. cpu or cuda:0.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads of the policy.", min=1)] = 1,
    lenient: Annotated[
        bool,
        typer.Option("--lenient", help="Report faults of the recording as warnings instead of errors."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary and timing as JSON.")] = False,
) -> None:
    """Replay a recording through planner and executor as fast as possible, and evaluate the chunks.

    Both run on the recording's clock with the latencies given here, so context ages and phase offsets are those
    of a real run, and repeating it gives the same summary.json and events.jsonl, byte for byte (except with 'measured'
    latencies). Compare two reports with `wam replay compare A B`. Ctrl-C ends it with a report of what was replayed.

    The report first answers two questions: would this have been safe, and would it have done what the person did? Both
    are answered by the default gate, which also decides the verdict where no gate is given.

    Exit codes: 0 the gate passed, could not judge ("cannot be told") or was 'none'; 1 could not run; 2 the gate failed
    or the policy produced invalid output; 3 this machine refused (disk, permission, display); 130 stopped.

    Example: wam replay g1_ep1 --robot g1_inspire --policy aha_wam/random --report out
    """
    from wam.cli.replay_outcome import print_outcome
    from wam.data.bag.binding import TopicNames, parse_action_topics
    from wam.devices.loader import load_robot
    from wam.evaluation.metrics.gate import gate_option, require_known
    from wam.evaluation.metrics.table import gate_names
    from wam.evaluation.replay.engine import (
        MEASURED,
        ReplayOptions,
        ReplaySettings,
        parse_latency,
        parse_strategy,
    )
    from wam.evaluation.replay.rerun import require_rerun, require_rrd
    from wam.evaluation.replay.session import replay as run_replay
    from wam.policies.loading import load_policy
    from wam.report.folder import require_free
    from wam.runtime.policy import PolicyRequest

    if mode not in (OFFLINE, LIVE):
        raise ConfigError("option --mode", value=mode, allowed=f"{OFFLINE} or {LIVE}", where="--mode")
    live = mode == LIVE
    if live and (planner_latency, executor_latency) != (PLANNER_LATENCY, EXECUTOR_LATENCY):
        raise ConfigError(
            "latencies with --mode live",
            value=f"{planner_latency}, {executor_latency}",
            allowed="none: the nodes run in real time",
            where="--planner-latency, --executor-latency",
        )
    if live:
        planner_latency = executor_latency = MEASURED
    options = ReplayOptions(
        bag=bag,
        policy_name=policy,
        settings=ReplaySettings(
            planner_latency_ns=parse_latency(planner_latency, option="--planner-latency"),
            executor_latency_ns=parse_latency(executor_latency, option="--executor-latency"),
            planner_period_ns=seconds_to_ns(planner_period),
            executor_period_ns=seconds_to_ns(executor_period),
            max_context_age_ns=seconds_to_ns(max_context_age),
            strategy=parse_strategy(strategy, what="option --strategy", where="--strategy"),
            extra_filters=tuple(extra_filter or ()),
            imagination=imagination,
        ),
        names=TopicNames(
            namespace=namespace,
            renamed=parse_remap(remap),
            actions=parse_action_topics(action_topic or [], option="--action-topic"),
        ),
        instruction=instruction,
        seed=seed,
        lenient=lenient,
        use_stamps=use_stamps(time),
        clock_offsets=parse_offsets(clock_offset or []),
        gate=gate_option(gate),
        mode=mode,
        rerun=rerun,
        page=page,
    )
    # Cheap checks come before the policy is loaded.
    require_known(options.gate.thresholds, gate_names(), where=f"--gate {gate}")
    description = load_robot(robot, moves=live)
    require_free(report)
    require_export(export)
    if rerun is not None:
        require_rrd(rerun)
        require_rerun()
    if not bag.exists():
        raise ConfigError(f"recording {bag} does not exist", where="the argument BAG")
    console = Console(stderr=True)
    with console.status(f"loading {policy}") if console.is_terminal else contextlib.nullcontext():
        request = PolicyRequest(
            policy, planner=not live, executor=not live, device=device, threads=threads, seed=seed
        )
        loaded = load_policy(request, robot=description)
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        stack.enter_context(stop_on_signals(stop))
        make_engine = None
        if live:
            from wam.cli.replay_live import live_engine

            make_engine = live_engine(
                options,
                robot=robot,
                description=description,
                policy=loaded,
                device=device,
                threads=threads,
                log_dir=Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wam-replay-"))),
                stopped=stop.is_set,
            )
        progress = stack.enter_context(row_progress(console, f"replaying {bag.name}", unit="messages"))
        outcome = run_replay(
            options,
            robot=description,
            policy=loaded,
            report=report,
            progress=progress,
            make_engine=make_engine,
            stopped=stop.is_set,
        )
    write_files(report, outcome.summary, export=export, junit=junit, markdown=markdown)
    if as_json:
        typer.echo(
            json.dumps({"summary": outcome.summary, "timing": outcome.timing}, indent=2, ensure_ascii=False)
        )
    else:
        print_outcome(Console(), outcome)
    for warning in outcome.summary["warnings"]:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
    console.print(f"report: {outcome.page.resolve()}", soft_wrap=True, highlight=False)
    if outcome.stopped:
        raise typer.Exit(EXIT_INTERRUPTED)
    if not outcome.passed:
        raise typer.Exit(EXIT_FAILED_GATE)


app.command("export")(export_files)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Report of the first replay.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Report of the second, of the same recording.")],
    fail_if_worse: Annotated[
        bool,
        typer.Option(
            "--fail-if-worse", help="Exit with code 2 if any error metric of B is significantly worse."
        ),
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(help="Also write this HTML file: both runs side by side.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare two reports of one recording, chunk by chunk.

    Chunks are paired by the stamp of their image. A difference is called significant when the 95 % bootstrap interval
    of the paired differences excludes zero. Reports of two recordings are refused, by the hash of what was read.
    """
    from wam.evaluation.replay.compare import compare_reports

    result = compare_reports(first, second)
    if page is not None:
        from wam.evaluation.replay.compare_page import write_compare_page

        write_compare_page(page, (first, second), result)
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2, ensure_ascii=False))
    else:
        _print_comparison(Console(), result)
    if page is not None:
        Console(stderr=True).print(f"page: {page.resolve()}", soft_wrap=True, highlight=False)
    if fail_if_worse and any(d.verdict == "first is better" for d in result.differences):
        raise typer.Exit(EXIT_FAILED_GATE)


@app.command()
def scenario(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="YAML file: recordings or data set, robot, policy, sweep, gate."),
    ],
    report: Annotated[
        Path, typer.Option(help="Folder of the report: new, empty, or an earlier one.", show_default=False)
    ],
    jobs: Annotated[
        int, typer.Option(help="Number of parallel replays, each in its own process.", min=1)
    ] = 1,
    ray: Annotated[
        str,
        typer.Option(
            help="Run on a Ray cluster instead: local, auto, HOST:PORT or ray://HOST:PORT (extra ray).",
            show_default=False,
        ),
    ] = "",
    device: Annotated[str, typer.Option(help="Device of the policy, e.g. cpu or cuda:0.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads of each policy.", min=1)] = 1,
    junit: Junit = None,
    markdown: Markdown = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary and timing as JSON.")] = False,
) -> None:
    """Replay many recordings, or episodes of a LeRobot data set, with every combination of a sweep.

    The page is a browser of the episodes; means over them are compared variant by variant.

    Without a gate in the file every run is judged by the default gate, and the worst one decides.

    Exit codes: 0 the gate passed or could not judge ("cannot be told"), 1 a run failed, 2 the gate failed or a policy
    produced invalid output, 3 this machine refused (disk, permission): there is no report then.
    """
    from wam.cli.replay_outcome import print_scenario
    from wam.devices.loader import load_robot
    from wam.evaluation.replay.dataset_source import converted
    from wam.evaluation.replay.jobs import run_scenario
    from wam.evaluation.replay.scenario import read_scenario
    from wam.report.folder import require_free

    chosen = read_scenario(file)
    description = load_robot(chosen.robot, moves=False)
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        if chosen.dataset is not None:
            require_free(report)
            with row_progress(console, f"converting {chosen.dataset.path.name}", unit="episodes") as progress:
                bags = stack.enter_context(
                    converted(chosen.dataset, description, beside=report.absolute().parent, progress=progress)
                )
            chosen = chosen.of_episodes(bags)
        with row_progress(console, chosen.name, unit="runs") as progress:
            outcome = run_scenario(
                chosen, report, processes=jobs, device=device, threads=threads, done=progress, ray_address=ray
            )
    summary, timing = outcome.summary, outcome.timing
    write_files(report, summary, junit=junit, markdown=markdown)
    if as_json:
        typer.echo(json.dumps({"summary": summary, "timing": timing}, indent=2, ensure_ascii=False))
    else:
        print_scenario(summary)
    for run in outcome.runs:
        if run.error:
            console.print(
                f"[red]{escape(run.recording)}, {escape(run.variant)}:[/red] {escape(run.error)}",
                soft_wrap=True,
            )
    console.print(f"report: {outcome.page.resolve()}", soft_wrap=True, highlight=False)
    if summary["verdict"] == "could not run":
        raise typer.Exit(EXIT_COULD_NOT_RUN)
    if summary["verdict"] in ("fail", "fault"):
        raise typer.Exit(EXIT_FAILED_GATE)


def _print_comparison(console: Console, result: Comparison) -> None:
    for name, values in result.settings.items():
        console.print(f"{name}: {values[0]} | {values[1]}", highlight=False)
    table = Table("error", "A", "B", "B - A", "95 % interval", "", box=None, pad_edge=False)
    for d in result.differences:
        span = f"{d.difference.low:.2g} to {d.difference.high:.2g}"
        numbers = (f"{d.first:.4g}", f"{d.second:.4g}", f"{d.difference.value:+.2g}")
        # Keep the table within 80 columns.
        said = {"second is better": "B is better", "first is better": "A is better"}
        table.add_row(d.name, *numbers, span, said.get(d.verdict, "not significant"))
    console.print(table)
    for warning in result.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{result.pairs} pairs of chunks, {result.unpaired} unpaired chunks", highlight=False)
