# SPDX-License-Identifier: Apache-2.0
"""G: autoregressive and Jacobi decoding."""

from __future__ import annotations

import pytest
import torch

from wam.models.ud_vla.baselines import Plan, autoregressive, jacobi
from wam.models.ud_vla.decoder import RestrictedHead
from wam.models.ud_vla.jd3p import Heads
from wam.models.ud_vla.sampling import GreedyDraws
from wam.models.ud_vla.tokens import RELEASED

pytestmark = pytest.mark.parity


def small_heads(golden, decoder):
    action = RestrictedHead(decoder, golden.io["ids.small_act"].long())
    return Heads(RestrictedHead(decoder, golden.io["ids.small_img"].long()), action)


def test_greedy_autoregressive_tokens_are_the_authors(golden, decoder):
    prompt = golden.io["G.ar_action.prompt"].long()
    plan = Plan(torch.full((12,), RELEASED.mask), torch.zeros(12, dtype=torch.bool), RELEASED.mask)
    out = autoregressive(
        decoder, prompt, plan, small_heads(golden, decoder), GreedyDraws(), stop=RELEASED.eoa
    )
    assert torch.equal(out.ids.int(), golden.io["G.ar_action.tokens"])


@pytest.mark.parametrize("run", [12, 5, 1])
def test_jacobi_reaches_the_authors_fixed_point_with_any_run(golden, decoder, run):
    prompt = golden.io["G.ar_action.prompt"].long()[:-1]
    known = torch.full((12,), RELEASED.mask)
    known[0] = RELEASED.boa
    plan = Plan(known, torch.zeros(12, dtype=torch.bool), RELEASED.mask)
    out = jacobi(decoder, prompt, plan, small_heads(golden, decoder), run=run)
    assert torch.equal(out.ids.int(), golden.io["G.jacobi.tokens"])
