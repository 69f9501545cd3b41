# SPDX-License-Identifier: Apache-2.0
"""G: autoregressive and Jacobi decoding."""

from __future__ import annotations

import pytest
import torch

from wam.policies.ud_vla.baselines import Plan, autoregressive, jacobi
from wam.policies.ud_vla.decoder import RestrictedHead
from wam.policies.ud_vla.jd3p import Heads
from wam.policies.ud_vla.sampling import GreedyDraws
from wam.policies.ud_vla.tokens import RELEASED

pytestmark = pytest.mark.parity


def small_heads(golden, decoder):
    action = RestrictedHead(decoder, golden.io["ids.small_act"].long())
    return Heads(RestrictedHead(decoder, golden.io["ids.small_img"].long()), action)


def room(sites):
    """Return a plan of free sites."""
    return Plan(torch.full((sites,), RELEASED.mask), torch.zeros(sites, dtype=torch.bool), RELEASED.mask)


def test_greedy_autoregressive_tokens_are_the_authors(golden, decoder):
    prompt, tokens = golden.io["G.ar_action.prompt"].long(), golden.io["G.ar_action.tokens"]
    spare = len(golden.io["G.jacobi.tokens"]) if int(tokens[-1]) == RELEASED.eoa else 0
    plan = room(len(tokens) + spare)
    out = autoregressive(
        decoder, prompt, plan, small_heads(golden, decoder), GreedyDraws(), stop=RELEASED.eoa
    )
    assert torch.equal(out.ids.int(), tokens)


@pytest.mark.parametrize("run", [None, 5, 1], ids=["whole", "5", "1"])
def test_jacobi_reaches_the_authors_fixed_point_with_any_run(golden, decoder, run):
    prompt, tokens = golden.io["G.ar_action.prompt"].long()[:-1], golden.io["G.jacobi.tokens"]
    plan = room(len(tokens))
    plan.known[0] = RELEASED.boa
    out = jacobi(decoder, prompt, plan, small_heads(golden, decoder), run=run or len(tokens))
    assert torch.equal(out.ids.int(), tokens)
