# SPDX-License-Identifier: Apache-2.0
"""E: every state of every golden decoding, with the stored draws."""

from __future__ import annotations

import pytest
import torch

from wam.models.ud_vla.config import MaskMode
from wam.models.ud_vla.decoder import RestrictedHead
from wam.models.ud_vla.jd3p import (
    Cached,
    Heads,
    Jd3pSettings,
    Uncached,
    UnmaskRule,
    decode,
    kept_by_paper,
    masked_after,
    prefix_mask,
)
from wam.models.ud_vla.sampling import drawn_at, gumbel_of, race
from wam.models.ud_vla.tokens import RELEASED

pytestmark = pytest.mark.parity

RELEASED_HEADER = (16, 9, 15, 17, 20)
"""In the order of the released list of allowed ids."""


class StoredDraws:
    """What the authors' run drew."""

    def __init__(self, io, key, heads, image_len, noise=None):
        self._io, self._key, self._heads, self._image_len, self._noise = io, key, heads, image_len, noise

    def tokens(self, logits_RV, *, step, image, sites):
        if self._noise is not None:
            stored = self._io[f"{self._noise}.{'q_img' if image else 'q_act'}"][step]
            return race(logits_RV, stored[sites if image else sites - self._image_len])
        ids = self._io[f"{self._key}.raw"][step].long()[sites]
        vocabulary = (self._heads.image if image else self._heads.action).vocabulary
        hits = vocabulary[None] == ids[:, None]
        assert hits.any(1).all()
        return drawn_at(logits_RV, hits.int().argmax(1))

    def gumbel(self, sites, *, step):
        return gumbel_of(self._io[f"{self._key}.u"][step])


def heads_of(golden, decoder, *, full):
    if full:
        image = torch.tensor([*RELEASED.visual_range, RELEASED.img, RELEASED.eof, *RELEASED_HEADER])
        action = torch.tensor([*range(150_618, 151_643), RELEASED.eoa])
    else:
        image, action = golden.io["ids.small_img"].long(), golden.io["ids.small_act"].long()
    return Heads(RestrictedHead(decoder, image), RestrictedHead(decoder, action))


def evaluator(decoder, layout, prefix, mode, cached):
    if not cached:
        return Uncached(decoder, prefix, layout=layout, mode=mode)
    with torch.inference_mode():
        kv, _ = decoder.prefill(prefix[None], prefix_mask(layout, prefix, torch.float32))
    return Cached(decoder, kv, layout=layout, mode=mode)


@pytest.mark.parametrize(
    ("scenario", "cached"),
    [
        ("released_T8_small", False),
        ("released_T16_full", False),
        ("released_T8_one_cam", False),
        ("released_T8_eoa", False),
        ("hybrid_T8_small", False),
        ("hybrid_T8_small", True),
        ("hybrid_T16_small", True),
    ],
)
def test_every_state_of_the_released_rule_is_the_authors(golden, decoder, scenario, cached):
    name = "one_cam" if "one_cam" in scenario else "two_cam"
    mode = MaskMode.HYBRID if scenario.startswith("hybrid") else MaskMode.RELEASED
    key, layout, io = f"E.{scenario}", golden.layout(name), golden.io
    heads = heads_of(golden, decoder, full="full" in scenario)
    steps = golden.info["E"][scenario]["T"]
    seen = []

    def observe(step, given, drawn, state):
        assert torch.equal(given.int(), io[f"{key}.model_in"][step][-layout.generated_len :]), step
        assert torch.equal(drawn.int(), io[f"{key}.sampled"][step]), step
        assert torch.equal(state.int(), io[f"{key}.gen"][step]), step
        seen.append(int((state == RELEASED.mask).sum()))

    decode(
        evaluator(decoder, layout, golden.prefix(name), mode, cached),
        heads,
        StoredDraws(io, key, heads, layout.image_len),
        layout=layout,
        settings=Jd3pSettings(steps=steps, freeze=False),
        start_G=io[f"{key}.gen_in"][0].long(),
        observe=observe,
    )
    assert seen == golden.info["E"][scenario]["nmask"]


def test_gumbel_max_draws_what_the_authors_generator_drew(golden, decoder):
    layout, io, key = golden.layout("two_cam"), golden.io, "E.released_T8_small"
    heads = heads_of(golden, decoder, full=False)
    states = []
    decode(
        evaluator(decoder, layout, golden.prefix("two_cam"), MaskMode.RELEASED, False),
        heads,
        StoredDraws(io, key, heads, layout.image_len, noise=key),
        layout=layout,
        settings=Jd3pSettings(steps=8, freeze=False),
        observe=lambda step, given, drawn, state: states.append(state.int()),
    )
    assert torch.equal(torch.stack(states), io[f"{key}.gen"])


@pytest.mark.parametrize("cached", [False, True])
def test_every_state_of_the_papers_rule_is_the_golden_one(golden, decoder, cached):
    layout, io, key = golden.layout("two_cam"), golden.io, "E.released_T8_small"
    heads = heads_of(golden, decoder, full=False)
    states = []
    decode(
        evaluator(decoder, layout, golden.prefix("two_cam"), MaskMode.HYBRID, cached),
        heads,
        StoredDraws(io, key, heads, layout.image_len, noise=key),
        layout=layout,
        settings=Jd3pSettings(steps=8, rule=UnmaskRule.PAPER),
        observe=lambda step, given, drawn, state: states.append(state.int()),
    )
    assert torch.equal(torch.stack(states), io["E.paper_rule_T8_hybrid.states"])


@pytest.mark.parametrize(("steps", "sites", "known"), [(72, 817, 5), (8, 67, 5), (16, 67, 5), (8, 54, 3)])
def test_counts_of_the_released_rule_are_the_tables(golden, steps, sites, known):
    wanted, unknown, counts = masked_after(sites, steps=steps), sites - known, []
    for number in wanted:
        unknown = max(1, min(unknown - 1, number))
        counts.append(unknown)
    table = golden.info["E"]["mask_count_tables"][f"code_T{steps}_L{sites}_prefilled{known}"]
    assert counts == table


def test_counts_of_the_papers_rule_are_the_tables_until_its_last_step(golden):
    table = golden.info["E"]["mask_count_tables"]["paper_T72_L817_prefilled5"]
    masked, counts = 812, []
    for step in range(72):
        masked -= kept_by_paper(masked, step=step, steps=72) if masked else 0
        counts.append(masked)
    assert counts == table
