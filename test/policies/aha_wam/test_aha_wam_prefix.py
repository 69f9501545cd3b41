# SPDX-License-Identifier: Apache-2.0
"""A chunk conditioned on the rows that are executed before it can take over, behind the executor's seam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wam.core.errors import BundleError
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.core.policy import Committed, LoadedPolicy
from wam.models.backends.backend import EAGER_NAME
from wam.models.layers.flow import integrate
from wam.policies.aha_wam import stages
from wam.policies.aha_wam.config import AhaWamConfig, tiny
from wam.policies.aha_wam.prefix import EAGER_REASON
from wam.policies.bundles import load_policy, make_tiny_bundle

START_NS = 1_700_000_000_000_000_000
TRAINED = 4


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Bundles of the same random weights, by the rows that they say they were trained to be given."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("prefix")
    made = {}
    for rows in (0, TRAINED):
        overrides = {"prefix_rows": rows}
        made[rows] = make_tiny_bundle(folder / str(rows), "aha_wam", overrides=overrides).directory
    return made


def conditioned(bundles: dict[int, Path], **options: object) -> LoadedPolicy:
    return load_policy(bundles[TRAINED], sampler={"prefix": "condition"}, **options)


def observe(policy: LoadedPolicy) -> Observation:
    c = policy.contract
    rng = np.random.default_rng(0)
    frames = {
        name: CameraFrame(name, START_NS, rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        for name in c.camera_names
    }
    joints = c.state_joints
    return Observation(
        START_NS, frames, RobotState(START_NS, joints, np.full(len(joints), 0.3), np.zeros(len(joints)))
    )


def rows_of(policy: LoadedPolicy, committed: Committed | None) -> np.ndarray:
    assert policy.planner is not None
    assert policy.executor is not None
    policy.planner.reset()
    seen = observe(policy)
    context = policy.planner.plan(seen, instruction=Instruction("fold the towel"))
    policy.executor.continue_from(committed)
    return policy.executor.act(policy.executor.route(seen, context=context), proprio=seen.state).rows


def committed_rows(free: np.ndarray, *, fixed: int, covered: int = 10) -> Committed:
    return Committed(rows=free + 0.05, fixed=fixed, covered=covered)


def test_rows_that_are_executed_anyway_come_back_unchanged_and_move_the_others(
    bundles: dict[int, Path],
) -> None:
    policy = conditioned(bundles)
    free = rows_of(policy, None)
    committed = committed_rows(free, fixed=3)
    rows = rows_of(policy, committed)
    np.testing.assert_array_equal(rows[:3], committed.rows[:3])
    assert np.abs(rows[3:] - free[3:]).max() > 1e-6
    np.testing.assert_array_equal(rows_of(policy, committed), rows)  # repeatable
    np.testing.assert_array_equal(rows_of(policy, None), free)


def test_a_chunk_is_given_no_more_rows_than_training_gave(bundles: dict[int, Path]) -> None:
    policy = conditioned(bundles)
    free = rows_of(policy, None)
    many, enough = (committed_rows(free, fixed=fixed) for fixed in (9, TRAINED))
    np.testing.assert_array_equal(rows_of(policy, many), rows_of(policy, enough))


def test_rows_given_stand_clean_at_time_zero_in_every_step(
    bundles: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = conditioned(bundles)
    committed = committed_rows(rows_of(policy, None), fixed=2)
    executor: Any = policy.executor
    model = executor.model
    clean = model.action.modulations(torch.zeros(1))[0]
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    step = stages.denoise_step

    def watched(model: Any, x: torch.Tensor, *, modulations: torch.Tensor, **rest: Any) -> torch.Tensor:
        seen.append((x, modulations))
        return step(model, x, modulations=modulations, **rest)

    monkeypatch.setattr(stages, "denoise_step", watched)
    rows_of(policy, committed)
    times = stages.schedule(model.action, executor._sigmas).modulations
    assert len(seen) == len(times)
    for (x, modulations), free in zip(seen, times, strict=True):
        assert torch.equal(x[:, :2], seen[0][0][:, :2])
        assert modulations.shape[:2] == (1, policy.contract.chunk_rows)
        for row in range(policy.contract.chunk_rows):
            torch.testing.assert_close(modulations[0, row], clean if row < 2 else free, rtol=0, atol=0)


@pytest.mark.parametrize("fixed", [0, 3])
def test_what_is_off_is_bit_identical(bundles: dict[int, Path], fixed: int) -> None:
    """A bundle as released, one that was trained so but is not asked, and one that has nothing to be given."""
    released, trained = load_policy(bundles[0]), load_policy(bundles[TRAINED])
    free = rows_of(released, None)
    committed = committed_rows(free, fixed=fixed)
    np.testing.assert_array_equal(rows_of(released, committed), free)
    # Same noise: neither generation, version nor seed differ between the two bundles.
    np.testing.assert_array_equal(rows_of(trained, committed), free)
    np.testing.assert_array_equal(rows_of(conditioned(bundles), committed_rows(free, fixed=0)), free)


def test_a_plain_chunk_is_the_integral_of_one_time_for_all_rows(bundles: dict[int, Path]) -> None:
    """Written out step by step from the network alone, so that the released path is held to what it computed."""
    policy = load_policy(bundles[0])
    executor = policy.executor
    assert executor is not None
    calls: list[tuple[tuple[object, ...], torch.Tensor]] = []
    denoise = executor._denoise

    def watched(*inputs: object) -> torch.Tensor:
        out = denoise(*inputs)
        calls.append((inputs, out))
        return out

    executor._denoise = watched
    rows_of(policy, None)
    ((noise, modulations, context, text, rope), out) = calls[0]
    assert modulations.dim() == 4

    def velocity(x: torch.Tensor, i: int) -> torch.Tensor:
        return executor.model.action(
            x,
            modulations=modulations[i],
            branch=executor.model.branch(),
            context=context,
            text=text,
            rope=rope,
        )

    with torch.inference_mode():
        assert torch.equal(integrate(velocity, noise, sigmas=executor._sigmas), out)


def test_conditioned_chunks_are_eager_and_the_report_says_why(bundles: dict[int, Path]) -> None:
    policy = conditioned(bundles)
    executor = policy.executor
    assert executor is not None
    (stage,) = [one for one in policy.stages if one.stage == "denoise_after_prefix"]
    assert (stage.backend, stage.reason) == (EAGER_NAME, EAGER_REASON)
    assert "denoise_after_prefix" not in load_policy(bundles[0]).backends
    free = rows_of(policy, None)

    def refuse(*inputs: object) -> torch.Tensor:
        raise AssertionError("a stage that takes one time for the chunk ran with rows given")

    executor._denoise = refuse
    rows_of(policy, committed_rows(free, fixed=2))
    with pytest.raises(AssertionError, match="one time for the chunk"):
        rows_of(policy, committed_rows(free, fixed=0))


def test_a_bundle_that_was_not_trained_for_it_refuses_to_be_conditioned(bundles: dict[int, Path]) -> None:
    with pytest.raises(BundleError, match=r"sampler\.prefix.*not trained.*got 'condition'; allowed: none"):
        load_policy(bundles[0], sampler={"prefix": "condition"})


@pytest.mark.parametrize("value", ["guide", "off", False, 3])
def test_another_word_for_the_prefix_is_refused(bundles: dict[int, Path], value: object) -> None:
    """YAML reads `off` as False."""
    with pytest.raises(BundleError, match=r"sampler\.prefix: got .*; allowed: none or condition"):
        load_policy(bundles[TRAINED], sampler={"prefix": value})


def test_guidance_and_conditioning_at_once_are_refused(bundles: dict[int, Path]) -> None:
    with pytest.raises(
        BundleError, match=r"guidance beside prefix: condition: got 5.0; allowed: one of both"
    ):
        load_policy(bundles[TRAINED], sampler={"prefix": "condition", "guidance": 5.0})


@pytest.mark.parametrize("rows", [-1, 16, True, 2.0, "3"])
def test_rows_that_no_chunk_has_are_refused(rows: object) -> None:
    with pytest.raises(ValueError, match=r"prefix_rows=.* must be an integer from 0 to 15"):
        AhaWamConfig.from_dict({**tiny().to_dict(), "prefix_rows": rows})


def test_the_option_survives_the_manifest_and_is_not_written_where_it_is_off(
    bundles: dict[int, Path],
) -> None:
    assert "prefix" not in (bundles[0] / "policy.yaml").read_text(encoding="utf-8")
    on = AhaWamConfig.from_dict({**tiny().to_dict(), "prefix_rows": 3})
    assert AhaWamConfig.from_dict(on.to_dict()) == on
    assert AhaWamConfig.from_dict(tiny().to_dict()).prefix_rows == 0
