# SPDX-License-Identifier: Apache-2.0
"""Every rung of every policy on one GPU, in at most eight minutes.

    python benchmarks/ladder.py --out ladder.json                 # full size, bfloat16, the first GPU
    python benchmarks/ladder.py --dry-run --device cpu            # tiny, a few runs of each: does it still work?

Weights are random and made on the device; times do not depend on their values. Each row is one JSON line, printed as
soon as it is measured. Sections are independent and ordered by worth: one that fails prints why, and the next one runs;
those that the time no longer allows are named.

A row of a stage has its time on the device and by the clock of the host (p50, p95), its kernels (operators, without a
GPU), the bytes of its weights, arguments and results, which is the least that it can move, and its error: relative to
the eager stage in float32, for whole numbers the share that differs. Without a GPU a "cuda_graph" is a stand-in
that shows that the rung works, and its time says nothing.
"""

from __future__ import annotations

import argparse
import functools
import gc
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from wam.bench.aha_wam_full_size import random_policy
from wam.bench.full_size import fill
from wam.bench.ladder import (
    RUNGS,
    LadderOptions,
    StageCollector,
    StageLadder,
    difference,
    in_float32,
    stand_in,
    varied,
)
from wam.bench.policy import synthetic_observation
from wam.core.contract import CameraContract, PolicyContract
from wam.core.observation import Instruction
from wam.core.policy import LoadedPolicy
from wam.models.backends.backend import COMPILE_NAME, TRITON_NAME, Eager
from wam.models.backends.cuda_graph import CudaGraphs, cuda_capture
from wam.models.backends.plan import Asked, BackendPlan, OrAuto, eager_plan
from wam.models.backends.stage import EulerLoop, PolicyPart, StageInputs, StageSpec
from wam.models.robot_layout import RobotLayout
from wam.policies.aha_wam import config as aha_config
from wam.policies.dust import config as dust_config
from wam.policies.dust.head import DustHead
from wam.policies.dust.model import FeatureProjection, make_backbone
from wam.policies.dust.planner import DustPlanner
from wam.policies.dust.prompt import DEFAULT_MAX_TOKENS, HashTokenizer, Prompter
from wam.policies.dust.sampling import build_tables, integrate_joint, noise
from wam.policies.dust.schedule import ChunkSchedule, Kind, SamplerSettings, schedule
from wam.policies.dust.stages import SLOT, HeadStages, PackedTables, StagedVelocity
from wam.policies.state.config import StateConfig
from wam.policies.state.network import StateNetwork
from wam.policies.ud_vla import config as ud_config
from wam.policies.ud_vla.baselines import Plan, autoregressive
from wam.policies.ud_vla.device_schedule import DeviceSchedule
from wam.policies.ud_vla.graphed_baseline import GraphedAutoregression
from wam.policies.ud_vla.initialise import random_decoder
from wam.policies.ud_vla.jd3p import Heads, Jd3pSettings
from wam.policies.ud_vla.sampling import RandomDraws, SiteDraws
from wam.policies.ud_vla.sequence import SequenceLayout
from wam.policies.ud_vla.stages import PlannerStages, StagedPass, pass_stage, prefix_levels
from wam.policies.ud_vla.vision import ImageTokenizer

STEPS = (10, 4, 2, 1)
"""Integration steps of AHA-WAM's chunks."""
SCALES = (1, 4, 16)
"""Evaluations of DUST's vision stream per move of the actions."""
EAGER_SITES = 32
"""Sites of the eager autoregression that are timed; the rest is scaled up."""
PREFILL_PERIOD_S = 0.1


# AHA-WAM


def _aha(ladder: StageLadder, *, steps: int, plan: BackendPlan) -> LoadedPolicy:
    config = aha_config.preset("tiny" if ladder.tiny else "paper")
    return random_policy(config, device=ladder.device, dtype=ladder.dtype, steps=steps, plan=plan)


def _chunks_alone(ladder: StageLadder, rung: str, graphs: CudaGraphs | None = None) -> BackendPlan:
    """Return a plan of a rung whose planner runs eagerly: capturing its seven lengths takes longer than all else."""
    if rung == "eager":
        return eager_plan()
    eager: dict[str, Asked] = {name: Eager() for name in ("planner_text_context", "planner_prefill")}
    return BackendPlan(named=eager, whole=graphs or ladder.graphs())


class _Requests:
    """Plans and chunks of one policy, each from a new image."""

    def __init__(self, policy: LoadedPolicy) -> None:
        assert policy.planner is not None
        assert policy.executor is not None
        self.planner, self.executor, self.contract = policy.planner, policy.executor, policy.contract
        self._count = 0
        self.context = self.plan()

    def _observation(self) -> Any:
        self._count += 1
        return synthetic_observation(self.contract, stamp_ns=self._count, seed=self._count)

    def plan(self) -> Any:
        self.context = self.planner.plan(
            self._observation(), instruction=Instruction(self.contract.instruction)
        )
        return self.context

    def chunk(self) -> Any:
        seen = self._observation()
        return self.executor.act(self.executor.route(seen, context=self.context), proprio=seen.state)


def aha_chunks(ladder: StageLadder) -> None:
    """Prefill and chunk from images to rows, for every number of steps."""
    for steps in STEPS:
        for rung in RUNGS:
            first = steps == STEPS[0]
            plan = ladder.plan(rung) if first else _chunks_alone(ladder, rung)
            requests = _Requests(_aha(ladder, steps=steps, plan=plan))
            ladder.row(f"aha_wam chunk N={steps}", rung, **ladder.timed(requests.chunk))
            if first:
                ladder.row("aha_wam prefill", rung, **ladder.timed(requests.plan))
            del requests
            gc.collect()


def aha_beside(ladder: StageLadder) -> None:
    """Chunks alone, and beside a planner that works ten times a second."""
    requests = _Requests(_aha(ladder, steps=2, plan=ladder.plan("cuda_graph")))
    done = threading.Event()

    def plans() -> None:
        with torch.inference_mode():
            while not done.wait(PREFILL_PERIOD_S):
                requests.plan()

    count = 5 if ladder.tiny else 400
    for name, thread in (("alone", None), ("beside a 10 Hz prefill", threading.Thread(target=plans))):
        if thread is not None:
            thread.start()
        times = []
        try:
            for _ in range(count):
                began = time.perf_counter()
                requests.chunk()
                times.append((time.perf_counter() - began) * 1e6)
        finally:
            done.set()
            if thread is not None:
                thread.join()
        done.clear()
        ordered = sorted(times)
        ladder.row(
            f"aha_wam chunk N=2 {name}",
            "cuda_graph",
            wall_p50_us=round(statistics.median(ordered), 1),
            wall_p99_us=round(ordered[min(count - 1, int(0.99 * count))], 1),
            chunks=count,
        )


def aha_stages(ladder: StageLadder) -> None:
    """Every stage of AHA-WAM."""
    plan = StageCollector()
    _aha(ladder, steps=2, plan=plan)
    ladder.stages("aha_wam", plan.specs)


def shared_pool(ladder: StageLadder) -> None:
    """Graphs of N=1, 2, 4 and 10 in one pool, run by as many threads: are the rows those of eager stages?"""
    wrong = []
    graphs = ladder.graphs()
    for steps in STEPS:
        shared_plan = _chunks_alone(ladder, "cuda_graph", graphs)
        eager = _Requests(_aha(ladder, steps=steps, plan=eager_plan()))
        shared = _Requests(_aha(ladder, steps=steps, plan=shared_plan))
        seen = synthetic_observation(eager.contract, stamp_ns=10, seed=steps)

        def rows(requests: _Requests, context: Any, seen: Any = seen) -> Tensor:
            routed = requests.executor.route(seen, context=context)
            return torch.tensor(requests.executor.act(routed, proprio=seen.state).rows)

        wrong.append((functools.partial(rows, shared, eager.context), rows(eager, eager.context)))
    bad: list[float] = []

    def repeat(run: Callable[[], Tensor], want: Tensor) -> None:
        with torch.inference_mode():
            for _ in range(2 if ladder.tiny else 50):
                bad.append(float((run() - want).norm() / want.norm()))

    threads = [threading.Thread(target=repeat, args=one) for one in wrong]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    allowed = 1e-5 if ladder.dtype == torch.float32 else 2e-2
    ladder.row(
        "aha_wam shared pool",
        "cuda_graph",
        chunks=len(bad),
        wrong=sum(not one <= allowed for one in bad),
        worst=max(bad),
        allowed=allowed,
    )


def aha_kernels(ladder: StageLadder) -> None:
    """One step by the suite's own fused kernels."""
    if not ladder.on_gpu:
        ladder.row("aha_wam step", "kernels, graph", skipped="needs a CUDA device")
        return
    from wam.models.kernels.availability import programmatic_launch, unavailable_because
    from wam.models.kernels.dit_stack import ActionKernels

    if why := unavailable_because(ladder.device):
        ladder.row("aha_wam step", "kernels, graph", skipped=why)
        return
    plan = StageCollector()
    policy: Any = _aha(ladder, steps=2, plan=plan).executor
    spec = next(one for one in plan.specs if one.name == "denoise")
    assert isinstance(spec.module, EulerLoop)
    (x, table, context, text, rope), _ = varied(spec.examples()[0]).arguments()
    step = StageSpec("step", PolicyPart.EXECUTOR, spec.module.step)
    given = StageInputs.of(x, table[0], context, text, rope)
    want = in_float32(step, given)
    dit = policy.model.action
    for pdl in (False, *([True] if programmatic_launch(ladder.device) else [])):
        kernels = ActionKernels(dit.action_encoder, list(dit.blocks), dit.head, rows=x.shape[1], pdl=pdl)
        run = functools.partial(
            kernels.velocity,
            x[0],
            modulations_L6D=table[0],
            branch_D=policy.model.branch(),
            context=(context.k[:, 0], context.v[:, 0]),
            text=(text.k[:, 0], text.v[:, 0]),
            rope=rope,
        )
        replay, results = cuda_capture()(lambda run=run: (run(),))
        replay()
        ladder.row(
            "aha_wam step",
            "kernels, graph, overlapped launches" if pdl else "kernels, graph",
            **ladder.timed(replay),
            kernels=ladder.kernels(replay),
            error=difference([results[0][None]], want or []),
        )


def own_kernels(ladder: StageLadder) -> None:
    """Every stage that has kernels, and AHA-WAM's chunk and prefill by them, as the backend `triton` runs them."""
    backend = ladder.backend(TRITON_NAME)
    if why := backend.probe():
        ladder.row("own kernels", TRITON_NAME, skipped=why)
        return
    plan = BackendPlan((ladder.graphs(),), whole=OrAuto(backend))
    requests = _Requests(_aha(ladder, steps=STEPS[0], plan=plan))
    ladder.row(f"aha_wam chunk N={STEPS[0]}", TRITON_NAME, **ladder.timed(requests.chunk))
    ladder.row("aha_wam prefill", TRITON_NAME, **ladder.timed(requests.plan))
    del requests, plan
    gc.collect()
    seen = StageCollector()
    _aha(ladder, steps=2, plan=seen)
    ladder.stages("aha_wam", [one for one in seen.specs if one.kernels], (TRITON_NAME,))
    seen = StageCollector()
    HeadStages(_dust_head(ladder), seen, feature_rows=_rows(ladder)).meet(tuple(Kind))
    ladder.stages("dust", [one for one in seen.specs if one.kernels], (TRITON_NAME,))
    case, seen = _UdVla(ladder), StageCollector()
    pass_stage(case.decoder, seen, layout=case.layout, prefix=case.prefix)
    ladder.stages("ud_vla", seen.specs, (TRITON_NAME,))


def regional_compile(ladder: StageLadder) -> None:
    """Every stage with regions, and AHA-WAM's chunk and prefill by them, as the backend `compile` runs them."""
    backend = ladder.backend(COMPILE_NAME)
    if why := backend.probe():
        ladder.row("regional compile", COMPILE_NAME, skipped=why)
        return
    began = time.perf_counter()
    plan = BackendPlan((ladder.graphs(),), whole=OrAuto(backend))
    requests = _Requests(_aha(ladder, steps=STEPS[0], plan=plan))
    ladder.row("aha_wam load", COMPILE_NAME, build_s=round(time.perf_counter() - began, 1))
    ladder.row(f"aha_wam chunk N={STEPS[0]}", COMPILE_NAME, **ladder.timed(requests.chunk))
    ladder.row("aha_wam prefill", COMPILE_NAME, **ladder.timed(requests.plan))
    del requests, plan
    gc.collect()
    seen = StageCollector()
    _aha(ladder, steps=2, plan=seen)
    ladder.stages("aha_wam", [one for one in seen.specs if one.regions], (COMPILE_NAME,))
    seen = StageCollector()
    HeadStages(_dust_head(ladder), seen, feature_rows=_rows(ladder)).meet(tuple(Kind))
    ladder.stages("dust", [one for one in seen.specs if one.regions], (COMPILE_NAME,))


# DUST


def _dust_head(ladder: StageLadder) -> DustHead:
    with torch.device("meta"):
        head = DustHead(dust_config.preset("tiny" if ladder.tiny else "paper"))
    head = head.to(ladder.dtype).to_empty(device=ladder.device).eval().requires_grad_(False)
    fill(head, seed=0)
    head.keep_embodiment(SLOT)
    head.merge_projections()
    return head


def _rows(ladder: StageLadder) -> int:
    return 12 if ladder.tiny else 240


def _dust_chunk(
    stages: HeadStages,
    kv: tuple[Tensor, Tensor],
    state: Tensor,
    tables: PackedTables,
    plan: ChunkSchedule,
    *,
    start: tuple[Tensor, Tensor | None],
) -> Tensor:
    velocity = StagedVelocity(stages, kv=kv, state_BTJ=state, tables=tables, plan=plan)
    return integrate_joint(velocity, *start, plan=plan).action


def dust_chunks(ladder: StageLadder) -> None:
    """A chunk from features to rows, for every factor of test-time scaling, and with the future kept."""
    head = _dust_head(ladder)
    config, rows = head.config, _rows(ladder)
    generator = torch.Generator().manual_seed(0)
    for rung in RUNGS:
        stages = HeadStages(head, ladder.plan(rung), feature_rows=rows)
        stages.meet(tuple(Kind))
        sizes = (len(config.cross_layers()), 1, rows, config.width)
        kv = tuple(torch.randn(sizes, generator=generator).to(ladder.device, ladder.dtype) for _ in range(2))
        state = torch.zeros(1, 1, config.state_dim, device=ladder.device)
        for q in SCALES:
            plan = schedule(SamplerSettings(q=q, future=False))
            tables = stages.tables(build_tables(head, plan, slot=SLOT))
            action, future = noise(config, batch=1, generator=generator, device=ladder.device)

            chunk = functools.partial(
                _dust_chunk, stages, (kv[0], kv[1]), state, tables, plan, start=(action, future)
            )
            repeats = None if q == 1 else max(1, ladder.repeats // 4)
            ladder.row(
                f"dust chunk q={q}",
                rung,
                **ladder.timed(chunk, repeats=repeats),
                evaluations=plan.counts()["total"],
            )


def dust_stages(ladder: StageLadder) -> None:
    """Every stage of DUST, the vision-language model included."""
    head, plan = _dust_head(ladder), StageCollector()
    HeadStages(head, plan, feature_rows=_rows(ladder)).meet(tuple(Kind))
    ladder.stages("dust", plan.specs)
    config = head.config
    del head
    with torch.device("meta"):
        backbone, projection = make_backbone(config), FeatureProjection(config)
    for part in (backbone, projection):
        part.to(ladder.dtype).to_empty(device=ladder.device).eval().requires_grad_(False)
        fill(part, seed=1)
    backbone.restore_buffers(ladder.device)
    plan, robot = StageCollector(), RobotLayout()
    cameras = robot.cameras[: config.views]
    DustPlanner(
        backbone,
        projection,
        contract=PolicyContract(
            kind="dust",
            contract_hash="0" * 64,
            cameras=tuple(CameraContract(name, *config.image_size) for name in cameras),
            state_joints=robot.state_joints,
            action_joints=robot.action_joints,
            control_period_ns=robot.control_period_ns,
            chunk_rows=config.action_rows,
            horizon_rows=config.action_rows,
            instruction=robot.instruction,
        ),
        prompter=Prompter(
            HashTokenizer(config.eagle),
            template="{task}",
            images=len(cameras),
            image_tokens=config.image_tokens,
            max_tokens=DEFAULT_MAX_TOKENS,
        ),
        image_size=config.image_size,
        crop=0.95,
        plan=plan,
    )
    ladder.stages("dust", plan.specs)


# UD-VLA


class _UdVla:
    """A decoder with random weights, and a prefix."""

    def __init__(self, ladder: StageLadder) -> None:
        base = ud_config.preset("tiny" if ladder.tiny else "paper")
        grids = ((4, 4), (2, 2)) if ladder.tiny else ud_config.RELEASED_GRIDS
        self.config = base if ladder.tiny else ud_config.released_geometry(base)
        self.decoder = random_decoder(self.config, seed=0, device=ladder.device, dtype=ladder.dtype)
        self.layout = SequenceLayout(self.config.tokens, grids, 12 if ladder.tiny else self.config.action_len)
        self.heads = Heads.of(self.decoder, self.layout)
        codes = [torch.arange(h * w).reshape(h, w) % self.config.tokens.visual_count for h, w in grids]
        self.prefix = self.layout.prefix(list(range(20)), codes)


def ud_vla_chunks(ladder: StageLadder) -> None:
    """JD3P on both rungs, and autoregression eager and captured: the ratio with and without launches."""
    case = _UdVla(ladder)
    layout, decoder = case.layout, case.decoder
    prefix = case.prefix.to(ladder.device)
    settings = Jd3pSettings(steps=4 if ladder.tiny else 72)
    draws = SiteDraws.draw(
        torch.Generator(ladder.device).manual_seed(0), steps=settings.steps, sites=layout.generated_len
    )
    planner = StageCollector()
    stages = PlannerStages(
        decoder,
        ImageTokenizer(case.config.vision, codes=2),
        planner,
        layout=layout,
        sizes=(),
        prefix=case.prefix,
    )
    assert stages.prefix is not None
    k, v = stages.prefix(prefix, prefix_levels(layout, prefix))
    levels = layout.levels.to(ladder.device)
    best: dict[str, float] = {}
    for rung in RUNGS:
        plan = ladder.plan(rung)
        run = pass_stage(decoder, plan, layout=layout, prefix=case.prefix)
        sampler = DeviceSchedule(
            case.heads,
            layout=layout,
            width=case.config.hidden,
            dtype=decoder.dtype,
            plan=plan,
            settings=settings,
        )
        evaluate = StagedPass(run, (levels, k, v), whole=False)
        times = ladder.timed(lambda s=sampler, e=evaluate: s.decode(e, draws), repeats=1, warm_up=1)
        best[rung] = float(times["wall_p50_us"] or 0.0)
        ladder.row(f"ud_vla JD3P T={settings.steps}", rung, **times, tokens=layout.generated_len)
    whole = Plan.of(layout)
    part = whole.first(min(EAGER_SITES, len(whole.known)))
    generator = torch.Generator(ladder.device).manual_seed(0)
    times = ladder.timed(
        lambda: autoregressive(decoder, prefix, part, case.heads, RandomDraws(generator)),
        repeats=1,
        warm_up=0,
    )
    factor = len(whole.known) / len(part.known)
    eager_us = float(times["wall_p50_us"] or 0.0) * factor
    ladder.row(
        "ud_vla autoregression", "eager", wall_p50_us=round(eager_us, 1), scaled_from_sites=len(part.known)
    )
    capture = cuda_capture() if ladder.on_gpu else stand_in
    baseline = GraphedAutoregression(decoder, whole, case.heads, prompt_sites=len(prefix), capture=capture)
    times = ladder.timed(lambda: baseline.decode(prefix, draws.uniform[0]), repeats=1, warm_up=1)
    graphed_us = float(times["wall_p50_us"] or 0.0)
    ladder.row("ud_vla autoregression", "cuda_graph", **times, tokens=len(whole.known))
    ladder.row(
        "ud_vla JD3P over autoregression",
        over_eager=round(eager_us / best["eager"], 2),
        both_captured=round(graphed_us / best["cuda_graph"], 2),
    )


def ud_vla_stages(ladder: StageLadder) -> None:
    """Every stage of UD-VLA."""
    case, plan = _UdVla(ladder), StageCollector()
    layout = case.layout
    with torch.device("meta"):
        vision = ImageTokenizer(case.config.vision, codes=case.config.tokens.visual_count)
    vision = vision.to_empty(device=ladder.device).eval().requires_grad_(False)
    fill(vision, seed=1)
    factor = case.config.vision.side_factor
    sizes = [(h * factor, w * factor) for h, w in layout.grids]
    PlannerStages(case.decoder, vision, plan, layout=layout, sizes=sizes, prefix=case.prefix)
    pass_stage(case.decoder, plan, layout=layout, prefix=case.prefix)
    DeviceSchedule(
        case.heads,
        layout=layout,
        width=case.config.hidden,
        dtype=case.decoder.dtype,
        plan=plan,
        settings=Jd3pSettings(steps=4),
    )
    ladder.stages("ud_vla", plan.specs)


def state_stages(ladder: StageLadder) -> None:
    """The network of a state policy."""
    robot = RobotLayout()
    config = StateConfig(state=len(robot.state_joints), environment=3, action=len(robot.action_joints))
    network = StateNetwork(config).eval().requires_grad_(False).to(ladder.device)
    given = StageInputs.of(
        *(torch.zeros(1, n, device=ladder.device) for n in (config.state, config.environment))
    )
    ladder.stages("state", [StageSpec("network", PolicyPart.EXECUTOR, network, lambda: [given])])


SECTIONS: dict[str, Callable[[StageLadder], None]] = {
    "aha_chunks": aha_chunks,
    "dust_chunks": dust_chunks,
    "ud_vla_chunks": ud_vla_chunks,
    "aha_beside": aha_beside,
    "shared_pool": shared_pool,
    "own_kernels": own_kernels,
    "aha_stages": aha_stages,
    "dust_stages": dust_stages,
    "ud_vla_stages": ud_vla_stages,
    "state_stages": state_stages,
    "aha_kernels": aha_kernels,
    "regional_compile": regional_compile,
}
"""In order of worth."""


def _options(arguments: Sequence[str] | None) -> LadderOptions:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ...; cpu with --dry-run")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, a few runs of each")
    parser.add_argument("--only", default="", help=f"sections, by commas: {', '.join(SECTIONS)}")
    parser.add_argument("--budget", type=float, default=450.0, help="seconds after which nothing new begins")
    parser.add_argument("--out", type=Path, help="file that holds all rows so far")
    parser.add_argument("--fail", default="", help="section that is to fail, to see that the others run")
    given = parser.parse_args(arguments)
    if given.device == "cpu" and not given.dry_run:
        parser.error("--device cpu: full sizes need a GPU; add --dry-run")
    if given.device != "cpu" and not torch.cuda.is_available():
        parser.error(
            f"--device {given.device}: this machine has no CUDA device; --dry-run --device cpu works"
        )
    only = tuple(filter(None, given.only.split(",")))
    for name in filter(None, (*only, given.fail)):
        if name not in SECTIONS:
            parser.error(f"there is no section {name}; allowed: {', '.join(SECTIONS)}")
    return LadderOptions(given.device, given.dry_run, only, given.budget, given.out, given.fail)


def _machine(ladder: StageLadder) -> Iterator[tuple[str, Any]]:
    yield "torch", torch.__version__
    yield "device", torch.cuda.get_device_name(ladder.device) if ladder.on_gpu else "cpu, dry run"
    yield "dtype", str(ladder.dtype).removeprefix("torch.")
    yield "stand_in", not ladder.on_gpu


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every section; the exit code is 1 where one failed."""
    options = _options(arguments)
    torch.set_num_threads(1)
    ladder = StageLadder(options)
    ladder.row("machine", **dict(_machine(ladder)))
    for name, work in SECTIONS.items():
        ladder.section(name, work)
    failed = [row["name"] for row in ladder.rows if row["name"].startswith("section ") and "error" in row]
    ladder.row("end", failed=failed)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
