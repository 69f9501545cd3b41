# SPDX-License-Identifier: Apache-2.0
"""The head against an independent reading of the paper, in three of its readings."""

from __future__ import annotations

import copy
import itertools
import re

import pytest
import torch
from torch import Tensor

from wam.policies.dust.eagle import pool_target
from wam.policies.dust.sampling import sample
from wam.policies.dust.schedule import (
    ALL_SAVINGS,
    NO_SAVINGS,
    ActionRule,
    ActionTime,
    SamplerSettings,
    schedule,
)
from wam.policies.dust.training.losses import (
    DustBatch,
    DustDraws,
    DustObjective,
    TimeLaw,
    losses,
    tau_from_beta,
)

pytestmark = pytest.mark.parity

RULES = list(itertools.product(ActionRule, ActionTime))


def close(have: Tensor, want: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(have, want, atol=atol, rtol=0, check_dtype=False)


def batch_of(io) -> DustBatch:
    return DustBatch(
        state=io["in.state"],
        action=io["in.action"],
        action_mask=io["in.action_mask"],
        target=io["in.target"],
        slot=io["in.embodiment_id"],
    )


def objective_of(dust, **changes) -> DustObjective:
    return DustObjective(world_weight=dust.info["cfg"]["lam"], **changes)


def draws_of(io) -> DustDraws:
    return DustDraws(io["tau_a"], io["draw.eps_a"], io["tau_o"], io["draw.eps_o"])


def gradients(head) -> dict[str, Tensor]:
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in head.named_parameters()}


def test_noise_levels_and_target_agree(dust) -> None:
    io = dust.io
    for which in "ao":
        close(tau_from_beta(io[f"draw.beta_{which}"], TimeLaw.N1).clamp_min(0), io[f"tau_{which}"], 1e-6)
    close(pool_target(io["in.siglip"]), io["in.target"], 1e-6)


def test_losses_velocities_and_every_block_agree(dust) -> None:
    io, head = dust.io, dust.net
    seen: dict[str, Tensor] = {}
    with torch.no_grad():
        result = losses(
            head,
            io["in.phi"],
            io["in.phi_mask"].bool(),
            batch_of(io),
            draws_of(io),
            objective_of(dust),
            probe=seen.__setitem__,
        )
    assert len(seen) == 2 * (1 + dust.config.mm_layers + dust.config.tail_layers + 1)
    for name, tensor in seen.items():
        part, stream = name.split(".")
        place = name if part in ("embed", "trunk_out") else f"{part}.out.{stream}"
        close(tensor, io[f"loss.{place}"])
    close(result.action, io["loss.action"])
    close(result.world, io["loss.wm"])
    close(result.joint, io["loss.joint"])


@pytest.mark.parametrize("action_free", [False, True], ids=["joint", "action-free"])
def test_gradients_agree(dust, action_free: bool) -> None:
    io, head = dust.io, copy.deepcopy(dust.net)
    prefix = "action_free.grad." if action_free else "grad."
    draws = draws_of(io)
    if action_free:
        draws = draws._replace(tau_a=torch.zeros_like(draws.tau_a))
    objective = objective_of(dust, action_free=action_free)
    result = losses(head, io["in.phi"], io["in.phi_mask"].bool(), batch_of(io), draws, objective)
    close(result.joint, io["action_free.loss" if action_free else "loss.joint"])
    result.joint.backward()
    have = gradients(head)
    names = [n for n in io if n.startswith(prefix)]
    assert names
    for name in names:
        close(have[name.removeprefix(prefix)], io[name])


def test_videos_without_actions_leave_exactly_these_weights_alone(dust) -> None:
    io, head = dust.io, copy.deepcopy(dust.net)
    draws = draws_of(io)
    draws = draws._replace(tau_a=torch.zeros_like(draws.tau_a))
    objective = objective_of(dust, action_free=True)
    losses(head, io["in.phi"], io["in.phi_mask"].bool(), batch_of(io), draws, objective).joint.backward()
    untouched = {n for n, g in gradients(head).items() if not g.any()}
    listed = set(dust.info["checks"]["parameters with zero gradient in action-free training"])
    expanded = {n for n in untouched if n in listed or n.rsplit(".", 1)[0] in listed}
    assert untouched == expanded
    assert {n if n in listed else n.rsplit(".", 1)[0] for n in untouched} == listed


@pytest.mark.parametrize("savings", [NO_SAVINGS, ALL_SAVINGS], ids=["naive", "cached"])
@pytest.mark.parametrize(("rule", "action_time"), RULES)
def test_every_sampler_agrees_step_by_step(dust, rule, action_time, savings) -> None:
    io, head = dust.io, dust.net
    pattern = re.compile(rf"sample\.q(\d+)\.{rule.value}\.{action_time.value}\.moves")
    runs = [int(m[1]) for m in map(pattern.fullmatch, io) if m]
    assert runs

    def features():
        return head.project_features(io["in.phi"], io["in.phi_mask"].bool())

    for q in sorted(runs):
        key = f"sample.q{q}.{rule.value}.{action_time.value}."
        moves = io[key + "moves"]
        settings = SamplerSettings(action_steps=int(moves.sum()), q=q, rule=rule, action_time=action_time)
        plan = schedule(settings, savings=savings)
        assert [e.moves for e in plan.evaluations] == moves.tolist()
        assert [e.bucket_o for e in plan.evaluations] == (1000 * io[key + "tau_o"].double()).long().tolist()
        actions, futures = [io[key + "action_path"][0]], [io[key + "obs_path"][0]]

        def trace(_e, a, o, paths=(actions, futures)) -> None:
            for path, state in zip(paths, (a, o), strict=True):
                path.append(state)

        with torch.no_grad():
            result = sample(
                head,
                features=features() if savings.features_once else features,
                state_BTJ=io["in.state"],
                slot=io["in.embodiment_id"],
                action_BNA=actions[0],
                future_BPO=futures[0],
                plan=plan,
                trace=trace,
            )
        close(torch.stack(actions), io[key + "action_path"])
        close(torch.stack(futures), io[key + "obs_path"])
        close(result.action, io[key + "action"])
        close(result.future, io[key + "obs"])
