# SPDX-License-Identifier: Apache-2.0
"""UD-VLA through the stages of a backend: captured, its schedule on the device, and computed wrongly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_graphs import (
    CountingMemory,
    FakeCapture,
    SharedMemory,
    WrongBackend,
    baked,
    ignored,
    layers_permuted,
)

from wam.bench.policy import synthetic_observation
from wam.core.errors import BundleError, PolicyFault
from wam.core.observation import Instruction
from wam.core.policy import LoadedPolicy
from wam.models.backends.cuda_graph import CudaGraphs
from wam.models.backends.plan import BackendPlan, eager_plan
from wam.policies.bundles import load_policy, make_tiny_bundle
from wam.policies.stage_export import export_stages
from wam.policies.ud_vla.baselines import Plan, autoregressive
from wam.policies.ud_vla.device_schedule import DeviceSchedule, UnmaskStage, step_numbers
from wam.policies.ud_vla.executor import UdVlaExecutor
from wam.policies.ud_vla.graphed_baseline import GraphedAutoregression
from wam.policies.ud_vla.jd3p import Cached, Heads, Jd3pSettings, UnmaskRule, decode, prefix_mask
from wam.policies.ud_vla.sampling import SiteDraws
from wam.policies.ud_vla.stages import prefix_levels


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "ud_vla", "ud_vla").directory


@pytest.fixture(scope="module")
def eager(directory: Path) -> LoadedPolicy:
    return load_policy(directory, backend="eager")


def executor_of(policy: LoadedPolicy) -> UdVlaExecutor:
    assert isinstance(policy.executor, UdVlaExecutor)
    return policy.executor


def chunk_of(policy: LoadedPolicy, *, seed: int, instruction: str = ""):
    contract, executor = policy.contract, executor_of(policy)
    seen = synthetic_observation(contract, stamp_ns=0, seed=seed)
    assert policy.planner is not None
    policy.planner.reset()  # the version of a context is part of the seed
    context = policy.planner.plan(seen, instruction=Instruction(instruction or contract.instruction))
    chunk = executor.act(executor.route(seen, context=context), proprio=seen.state)
    return context.payload.ids.numpy(), context.payload.k.numpy(), chunk.rows


def test_captured_passes_give_bit_for_bit_what_eager_ones_give(directory: Path, eager: LoadedPolicy) -> None:
    captured = load_policy(directory, backend=BackendPlan.of(CudaGraphs(new_capture=SharedMemory)))
    assert set(captured.backends.values()) >= {"cuda_graph"}
    for seed in (1, 2):
        for have, want in zip(chunk_of(captured, seed=seed), chunk_of(eager, seed=seed), strict=True):
            np.testing.assert_array_equal(have, want)


def test_instructions_of_20_lengths_run_eagerly_and_nothing_is_captured_after_loading(
    directory: Path, eager: LoadedPolicy
) -> None:
    """The length of the prefix follows the words. Every new one was captured and judged while the robot moved, and the
    17th ended the policy."""
    memory = CountingMemory()
    captured = load_policy(directory, backend=BackendPlan.of(CudaGraphs(new_capture=lambda: memory)))
    loaded = memory.captures
    assert loaded > 0
    shapes = set()
    for words in range(1, 21):
        instruction = "cup " * words
        have, want = (chunk_of(one, seed=1, instruction=instruction) for one in (captured, eager))
        shapes.add(want[1].shape)
        for one, other in zip(have, want, strict=True):
            np.testing.assert_array_equal(one, other)
    assert (len(shapes), memory.captures) == (20, loaded)


@pytest.mark.timeout(600)
def test_exported_passes_give_the_chunk_of_eager_ones_and_the_codes_of_images_stay_as_they_are_written(
    directory: Path, eager: LoadedPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest code depends on rounding: exported, the image tokenizer found others, and nothing ran exported."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="requirements/export.txt and model.txt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert set(export_stages(directory).names) == {"prefix.0", "generated_pass.0"}
    exported = load_policy(directory, backend="auto")
    on = {stage: text for stage, text in exported.backends.items() if text == "onnxruntime"}
    assert on.keys() == {"prefix", "generated_pass"}
    assert "its results are choices" in exported.backends["image_codes"]
    for seed in (1, 2):
        have, want = chunk_of(exported, seed=seed), chunk_of(eager, seed=seed)
        np.testing.assert_array_equal(have[0], want[0])
        np.testing.assert_allclose(have[1], want[1], atol=1e-5, rtol=0)
        np.testing.assert_allclose(have[2], want[2], atol=1e-6, rtol=0)
    with pytest.raises(BundleError, match="onnxruntime or auto"):
        load_policy(directory, backend="onnxruntime")


class Prompt:
    """A prefix of the policy, kept, and what decodes behind it."""

    def __init__(self, policy: LoadedPolicy) -> None:
        executor = executor_of(policy)
        self.decoder, self.layout = executor._decoder, executor._layout
        self.heads = Heads.of(self.decoder, self.layout)
        seen = synthetic_observation(policy.contract, stamp_ns=0, seed=4)
        self.ids = policy.planner.prefix(seen, policy.contract.instruction)  # type: ignore[union-attr]
        with torch.inference_mode():
            mask = prefix_mask(self.layout, self.ids, self.decoder.dtype)
            self.kv, _ = self.decoder.prefill(self.ids[None], mask)

    def evaluate(self) -> Cached:
        return Cached(self.decoder, self.kv, layout=self.layout, mode=self.decoder.config.mask)

    def draws(self, steps: int, seed: int) -> SiteDraws:
        generator = torch.Generator().manual_seed(seed)
        return SiteDraws.draw(generator, steps=steps, sites=self.layout.generated_len)

    def schedule(self, settings: Jd3pSettings, plan: BackendPlan) -> DeviceSchedule:
        return DeviceSchedule(
            self.heads,
            layout=self.layout,
            width=self.decoder.config.hidden,
            dtype=self.decoder.dtype,
            plan=plan,
            settings=settings,
        )


@pytest.fixture(scope="module")
def prompt(eager: LoadedPolicy) -> Prompt:
    return Prompt(eager)


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("rule", UnmaskRule)
@pytest.mark.parametrize("steps", [1, 5, 12])
def test_the_schedule_on_the_device_is_that_of_the_host(
    prompt: Prompt, rule: UnmaskRule, steps: int, freeze: bool
) -> None:
    settings = Jd3pSettings(steps=steps, rule=rule, freeze=freeze)
    schedule = prompt.schedule(settings, eager_plan())
    for seed in range(3):
        draws = prompt.draws(steps, seed)
        want = decode(prompt.evaluate(), prompt.heads, draws, layout=prompt.layout, settings=settings)
        have = schedule.decode(prompt.evaluate(), draws)
        assert torch.equal(have.ids, want.ids)
        assert want.evaluations <= have.evaluations <= steps


def test_an_end_of_the_action_freezes_the_sites_behind_it_on_the_device_too(prompt: Prompt) -> None:
    layout = prompt.layout
    stage = UnmaskStage(prompt.heads, layout, rule=UnmaskRule.RELEASED, freeze=True)
    state = layout.start.clone()
    end = layout.image_len + 3
    state[end] = layout.tokens.eoa
    frozen = stage.frozen(state)
    assert frozen.nonzero()[:, 0].tolist() == list(range(end + 1, layout.generated_len))
    numbers = step_numbers(Jd3pSettings(steps=4), device="cpu")
    rows = torch.zeros(layout.generated_len, prompt.decoder.config.hidden)
    half = torch.full((layout.generated_len,), 0.5)
    drawn, _, given = stage(state, rows, half, half, numbers[0])
    assert bool((drawn[end + 1 :] == state[end + 1 :]).all())
    assert bool((given[end + 1 :] == layout.tokens.mask).all())


def test_a_captured_schedule_gives_the_chunk_of_the_host(prompt: Prompt) -> None:
    settings = Jd3pSettings(steps=9)
    plan = BackendPlan.of(CudaGraphs(new_capture=SharedMemory))
    schedule = prompt.schedule(settings, plan)
    draws = prompt.draws(9, 7)
    want = decode(prompt.evaluate(), prompt.heads, draws, layout=prompt.layout, settings=settings)
    assert torch.equal(schedule.decode(prompt.evaluate(), draws).ids, want.ids)
    assert [str(stage) for stage in plan.stages] == ["cuda_graph"]


def test_a_policy_with_its_schedule_on_the_device_acts(directory: Path, eager: LoadedPolicy) -> None:
    policy = load_policy(directory, backend="eager", planner=False)
    executor = executor_of(policy)
    executor._on_device = True
    executor.configure(executor.settings)
    seen = synthetic_observation(policy.contract, stamp_ns=0, seed=1)
    assert eager.planner is not None
    context = eager.planner.plan(seen, instruction=Instruction(policy.contract.instruction))
    chunk = executor.act(executor.route(seen, context=context), proprio=seen.state)
    assert chunk.rows.shape == (policy.contract.chunk_rows, len(policy.contract.action_joints))


def test_another_seed_or_number_of_steps_takes_the_captured_schedule(directory: Path, prompt: Prompt) -> None:
    """Every seed made a stage of its own, which was captured and judged."""
    memory = CountingMemory()
    plan = BackendPlan.of(CudaGraphs(new_capture=lambda: memory))
    executor = executor_of(load_policy(directory, backend=plan, planner=False))
    executor._on_device = True
    executor.configure(executor.settings)
    captures = memory.captures
    for steps, seed in ((9, 1), (9, 2), (5, 2)):
        settings = replace(executor.settings, steps=steps, seed=seed, temperature=seed / 2)
        executor.configure(settings)
        generator = torch.Generator().manual_seed(seed)
        have = executor._decoded(prompt.evaluate(), generator)
        want = decode(
            prompt.evaluate(),
            prompt.heads,
            prompt.draws(steps, seed),
            layout=prompt.layout,
            settings=settings,
        )
        assert torch.equal(have.ids, want.ids)
    assert memory.captures == captures
    rules = {(rule, freeze) for rule in UnmaskRule for freeze in (True, False)}
    for rule, freeze in rules:
        executor.configure(replace(executor.settings, rule=rule, freeze=freeze))
    assert memory.captures == captures + len(rules) - 1


def test_the_captured_autoregression_gives_the_tokens_of_the_eager_one(prompt: Prompt) -> None:
    plan = Plan.of(prompt.layout)
    draws = prompt.draws(1, 3)
    one_step = SiteDraws(draws.uniform.expand(len(plan.known), -1), draws.gumbels)
    want = autoregressive(prompt.decoder, prompt.ids, plan, prompt.heads, one_step)
    capture = FakeCapture()
    baseline = GraphedAutoregression(
        prompt.decoder, plan, prompt.heads, prompt_sites=len(prompt.ids), capture=capture
    )
    for _ in range(2):
        have = baseline.decode(prompt.ids, draws.uniform[0])
        assert torch.equal(have.ids, want.ids)
    assert capture.replays == 2 * len(plan.known)


FAULTS = {
    "codes of fixed pixels": ("image_codes", baked(0)),
    "a prefix that became a constant": ("prefix", baked(0)),
    "block numbers of the prefix left out": ("prefix", ignored(1)),
    "generated ids that became a constant": ("generated_pass", baked(0)),
    "block numbers left out": ("generated_pass", ignored(1)),
    "layers of the keys in another order": ("generated_pass", layers_permuted(2)),
    "layers of the values in another order": ("generated_pass", layers_permuted(3)),
    "values of the prefix left out": ("generated_pass", ignored(3)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_backend_that_computes_something_else_is_refused(directory: Path, fault: str) -> None:
    stage, wrong = FAULTS[fault]
    with pytest.raises(PolicyFault, match=f"stage {stage} on backend wrong"):
        load_policy(directory, backend=BackendPlan.of(WrongBackend(stage, wrong)))


@pytest.mark.parametrize(
    ("place", "what"), [(0, "state"), (1, "rows"), (2, "draws"), (3, "confidence noise"), (4, "numbers")]
)
def test_a_wrong_schedule_is_refused(prompt: Prompt, place: int, what: str) -> None:
    with pytest.raises(PolicyFault, match="stage unmask"):
        prompt.schedule(Jd3pSettings(steps=9), BackendPlan.of(WrongBackend("unmask", baked(place))))


def test_block_numbers_of_a_prefix_are_text_then_images(prompt: Prompt) -> None:
    levels = prefix_levels(prompt.layout, prompt.ids)
    assert levels.tolist() == sorted(levels.tolist())
    assert int(levels.sum()) == prompt.layout.image_len
