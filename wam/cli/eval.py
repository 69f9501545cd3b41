# SPDX-License-Identifier: Apache-2.0
"""`wam eval`: evaluate a policy on a simulated task in closed loop."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wam.cli.eval_compare import compare
from wam.cli.groups import RunByDefault
from wam.cli.progress import row_progress
from wam.core.clock import seconds_to_ns
from wam.core.errors import ConfigError
from wam.evaluation.happened import plain
from wam.runtime.schedule import SCHEDULE
from wam.sim.quality import Quality

if TYPE_CHECKING:
    from wam.evaluation.closed_loop.scores import EpisodeRecord, Evaluation
    from wam.evaluation.closed_loop.table import EvaluationFigures

EXIT_FAILED = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    cls=RunByDefault, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False
)
app.command("compare")(compare)


@app.callback()
def evaluation() -> None:
    """Evaluate a policy on a simulated task in closed loop, with the real nodes or in this process."""


@app.command("run")
def evaluate(
    task: Annotated[str, typer.Option(help="Task to run; see `wam sim tasks`.", show_default=False)],
    policy: Annotated[
        str,
        typer.Option(
            help="Directory of a bundle, a name of `wam info` (aha_wam/random, fake), or in mode fast a control: "
            "'expert', 'still' (stands still), 'blind' or 'blind_same_text' (plays another episode of the expert).",
            show_default=False,
        ),
    ],
    report: Annotated[
        Path, typer.Option(help="Folder of the report: new, empty, or an earlier report.", show_default=False)
    ],
    episodes: Annotated[int, typer.Option(help="Number of episodes.", min=1)] = 10,
    mode: Annotated[
        str,
        typer.Option(
            help="'nodes' (the real nodes over DDS) or 'fast' (their cycles in this process, on simulated time)."
        ),
    ] = "nodes",
    seed: Annotated[
        int, typer.Option(help="Seed of the first episode; each further episode adds 1.", min=0)
    ] = 0,
    processes: Annotated[
        int,
        typer.Option(help="Mode fast: episodes played at a time, each in its own process.", min=1),
    ] = 1,
    ray: Annotated[
        str,
        typer.Option(
            help="Mode fast: play on a Ray cluster instead: 'local', 'auto', HOST:PORT or ray://HOST:PORT.",
            show_default=False,
        ),
    ] = "",
    setting: Annotated[str, typer.Option(help="'seen', or one of the task's unseen settings.")] = "seen",
    gate: Annotated[
        Path | None,
        typer.Option(help="YAML file with thresholds; exit code 2 if one is not met.", show_default=False),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Time limit of an episode [s]; default: the task's.", min=0.5, show_default=False),
    ] = None,
    planner_latency: Annotated[
        str,
        typer.Option(
            help="Mode fast: latency of a plan in simulated time [s]; "
            "'measured' uses the latency measured on this host."
        ),
    ] = f"{SCHEDULE.planner_latency:g}",
    executor_latency: Annotated[
        str, typer.Option(help="Mode fast: latency of a chunk in simulated time [s], or 'measured'.")
    ] = f"{SCHEDULE.executor_latency:g}",
    planner_period: Annotated[
        float, typer.Option(help="Minimum time between two plans [s]; 0 plans on every new image.", min=0.0)
    ] = SCHEDULE.planner_period,
    executor_period: Annotated[
        float, typer.Option(help="Time between the starts of two chunks [s].", min=0.005)
    ] = SCHEDULE.executor_period,
    strategy: Annotated[
        str,
        typer.Option(
            help="How chunks take over from one another: blend, latest, committed, roll or sequential; "
            "'committed' is for a policy that continues the chunk before (guidance or prefix in its sampler)."
        ),
    ] = SCHEDULE.strategy.value,
    extra_filter: Annotated[
        list[str] | None,
        typer.Option(
            help="MODULE:FACTORY of a safety filter from another package; may be repeated.",
            show_default=False,
        ),
    ] = None,
    policy_seed: Annotated[int, typer.Option(help="Seed of the policy's noise.", min=0)] = 0,
    sampler: Annotated[
        str,
        typer.Option(
            help="Entries of the bundle's sampler section to replace, e.g. 'steps: 2'.", show_default=False
        ),
    ] = "",
    device: Annotated[str, typer.Option(help="Device of the policy, e.g. cpu or cuda:0.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads of the policy.", min=1)] = 1,
    quality: Annotated[
        Quality,
        typer.Option(
            help="Images of the policy: 'fast' without shadows and smooth edges, as it was trained on."
        ),
    ] = Quality.FULL,
    any_task: Annotated[
        bool,
        typer.Option("--any-task", help="Run a policy on a task for which it was not trained."),
    ] = False,
    videos: Annotated[
        bool, typer.Option("--videos/--no-videos", help="Record a video of the worst and the best episode.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary and timing as JSON.")] = False,
) -> None:
    """Run episodes of a simulated task with a policy and score success, progress, times, forces and safety.

    Ctrl-C ends it with a report of the episodes that have ended. `wam eval compare FILE`
    compares policies on the same seeds.

    Exit codes: 0 success (and the gate passed), 1 could not run, 2 the gate failed or an episode ended in an error,
    3 this machine refused (disk, permission, display), 130 stopped.

    Example: wam eval --task franka_box_to_bowl --policy aha_wam/random --report out
    """
    from wam.core.signals import stop_on_signals
    from wam.devices.loader import load_robot
    from wam.evaluation.closed_loop.controls import CONTROLS
    from wam.evaluation.closed_loop.options import FAST, NODES, EvalOptions
    from wam.evaluation.closed_loop.page import (
        LOGS,
        build_evaluation_report,
        summary_of,
        timing_of,
    )
    from wam.evaluation.closed_loop.player import PlayerJob
    from wam.evaluation.closed_loop.pool import play_in_processes
    from wam.evaluation.closed_loop.ray import play_on_ray
    from wam.evaluation.closed_loop.run import evaluate_fast
    from wam.evaluation.closed_loop.table import compute_evaluation
    from wam.evaluation.closed_loop.verdict import headline
    from wam.evaluation.metrics.gate import read_gate
    from wam.evaluation.replay.engine import ReplaySettings, parse_latency, parse_strategy
    from wam.evaluation.replay.ray import require_ray
    from wam.report.folder import require_free
    from wam.runtime.policy import PolicyRequest, read_sampler, require_task
    from wam.sim.recording.sinks import EXPERT
    from wam.sim.tasks.registry import find_setting, find_task
    from wam.sim.tasks.truth import require_truth

    if mode not in (NODES, FAST):
        raise ConfigError("option --mode", value=mode, allowed=f"{NODES} or {FAST}", where="--mode")
    if policy in (EXPERT, *CONTROLS) and mode != FAST:
        raise ConfigError(
            f"the policy {policy!r} runs without nodes", value=mode, allowed=FAST, where="--mode"
        )
    if mode != FAST and (processes > 1 or ray):
        raise ConfigError("option --processes or --ray", value=mode, allowed=FAST, where="--mode")
    if ray:
        require_ray()
    chosen = find_task(task)
    options = EvalOptions(
        task=chosen,
        setting=find_setting(chosen, setting),
        policy=policy,
        seeds=tuple(range(seed, seed + episodes)),
        schedule=ReplaySettings(
            planner_latency_ns=parse_latency(planner_latency, option="--planner-latency"),
            executor_latency_ns=parse_latency(executor_latency, option="--executor-latency"),
            planner_period_ns=seconds_to_ns(planner_period),
            executor_period_ns=seconds_to_ns(executor_period),
            strategy=parse_strategy(strategy, what="option --strategy", where="--strategy"),
            extra_filters=tuple(extra_filter or ()),
        ),
        time_limit=time_limit,
        videos=videos,
        quality=quality,
        sampler=read_sampler(sampler),
    )
    thresholds = read_gate(gate) if gate is not None else ()
    require_free(report, keep=(LOGS,))
    robot = load_robot(chosen.robot)
    console = Console(stderr=True)
    elsewhere = processes > 1 or bool(ray)
    request = None
    if policy != EXPERT:
        request = PolicyRequest(
            policy,
            planner=True,
            executor=True,
            device=device,
            threads=threads,
            seed=policy_seed,
            sampler=options.sampler,
        )
    job = PlayerJob(options, request, robot)
    with console.status(f"loading {policy}") if console.is_terminal else contextlib.nullcontext():
        loaded = job.load(whole=mode == FAST and not elsewhere)
    if loaded is not None:
        require_task(loaded.contract, chosen.name, policy=policy, any_task=any_task)
        require_truth(chosen, loaded.contract)
    stop = threading.Event()
    with (
        stop_on_signals(stop),
        row_progress(console, f"wam eval {task}", unit="episodes") as progress,
    ):
        count = 0

        def done(episode: EpisodeRecord) -> None:
            nonlocal count
            count += 1
            progress(count, episodes)
            if not console.is_terminal:
                console.print(episode.line(count, episodes), soft_wrap=True, highlight=False, markup=False)

        if mode == NODES:
            from wam.cli.eval_nodes import evaluate_nodes

            assert loaded is not None
            run = evaluate_nodes(
                options,
                robot=robot,
                contract=loaded.contract,
                policy_seed=policy_seed,
                device=device,
                threads=threads,
                log_dir=report / LOGS,
                done=done,
                stopped=stop.is_set,
            )
        else:
            plays = None
            if ray:
                plays = play_on_ray(job, options.seeds, address=ray, stopped=stop.is_set)
            elif elsewhere:
                plays = play_in_processes(job, options.seeds, processes=processes, stopped=stop.is_set)
            run = evaluate_fast(options, loaded, robot=robot, plays=plays, done=done, stopped=stop.is_set)
    figures = compute_evaluation(run, thresholds)
    page = build_evaluation_report(run, figures, report)
    if as_json:
        both = {"summary": summary_of(run, figures), "timing": timing_of(run, figures)}
        typer.echo(json.dumps(both, indent=2, ensure_ascii=False))
    else:
        _print(Console(), run, figures, headline(run, figures))
    for warning in run.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
    for episode in run.episodes:
        if episode.error:
            console.print(f"[red]seed {episode.seed}:[/red] {escape(episode.error)}", soft_wrap=True)
    console.print(f"report: {page.resolve()}", soft_wrap=True, highlight=False)
    if stop.is_set():
        raise typer.Exit(EXIT_INTERRUPTED)
    if figures.verdict in ("fault", "fail"):
        raise typer.Exit(EXIT_FAILED)


def _print(console: Console, run: Evaluation, figures: EvaluationFigures, said: str) -> None:
    console.print(f"[bold]{escape(said)}[/bold]", soft_wrap=True, highlight=False)
    scores, times = figures.scores.metrics, figures.times.metrics

    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row(
        "success",
        f"{scores['successes']:.0f} of {scores['episodes']:.0f} "
        f"({shown(scores['success_low'], '.2f')} to {shown(scores['success_high'], '.2f')}, Wilson 95 %)",
    )
    table.add_row(
        "mean score",
        f"{shown(scores['mean_score'], '.2f')} of {len(run.stage_names)} "
        f"({shown(scores['score_low'], '.2f')} to {shown(scores['score_high'], '.2f')}, bootstrap 95 %)",
    )
    table.add_row("time to success", f"{shown(scores['mean_time_to_success_s'], '.1f')} s, mean")
    table.add_row("contact force", f"{shown(scores['max_contact_force_n'], '.0f')} N, largest")
    if times["chunk_p50_ms"] is not None:
        for name, title in (("chunk", "chunk latency"), ("prefill", "prefill")):
            p50, p99 = times[f"{name}_p50_ms"], times[f"{name}_p99_ms"]
            table.add_row(title, f"p50 {shown(p50, '.1f')} ms, p99 {shown(p99, '.1f')} ms")
        stops, holds = scores["safety_stop_episodes"], scores["safety_hold_episodes"]
        table.add_row(
            "safety",
            f"{shown(scores['safety_events'], '.0f')} events; episodes that held: {shown(holds, '.0f')}, "
            f"that stopped: {shown(stops, '.0f')}",
        )
    if figures.held:
        causes = ", ".join(f"{plain(cause)} {time:.1f} s" for cause, time in figures.held.items())
        table.add_row("held", f"{100 * (scores['held_share'] or 0.0):.1f} % of the time: {causes}")
    for check in figures.checks:
        mark = "[green]pass[/green]" if check.passed else "[red]FAIL[/red]"
        allowed = check.threshold.text()
        table.add_row(f"gate: {check.threshold.metric}", f"{mark} {check.value} (allowed {allowed})")
    console.print(table)
