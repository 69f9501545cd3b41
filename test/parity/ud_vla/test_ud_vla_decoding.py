# SPDX-License-Identifier: Apache-2.0
"""E: every state of every golden decoding, with the stored draws."""

from __future__ import annotations

import re

import pytest
import torch

from wam.policies.ud_vla.config import MaskMode
from wam.policies.ud_vla.decoder import RestrictedHead
from wam.policies.ud_vla.jd3p import (
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
from wam.policies.ud_vla.sampling import drawn_at, gumbel_of, race
from wam.policies.ud_vla.tokens import RELEASED

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


def test_every_state_of_the_released_rule_is_the_authors(golden, decoder, decoding):
    scenario, prefix = decoding
    about, io, key = golden.info["E"][scenario], golden.io, f"E.{scenario}"
    mode = MaskMode.HYBRID if about["mask_mode"].startswith("paper_hybrid") else MaskMode.RELEASED
    name = golden.view_of(about["G"])
    layout = golden.layout(name)
    heads = heads_of(golden, decoder, full=about["n_img_ids"] != len(io["ids.small_img"]))
    assert len(heads.image.vocabulary) == about["n_img_ids"]
    assert len(heads.action.vocabulary) == about["n_act_ids"]
    steps = about["T"]
    seen = []

    def observe(step, given, drawn, state):
        assert torch.equal(given.int(), io[f"{key}.model_in"][step][-layout.generated_len :]), step
        assert torch.equal(drawn.int(), io[f"{key}.sampled"][step]), step
        assert torch.equal(state.int(), io[f"{key}.gen"][step]), step
        seen.append(int((state == RELEASED.mask).sum()))

    decode(
        evaluator(decoder, layout, golden.prefix(name), mode, prefix == "kept"),
        heads,
        StoredDraws(io, key, heads, layout.image_len),
        layout=layout,
        settings=Jd3pSettings(steps=steps, freeze=False),
        start_G=io[f"{key}.gen_in"][0].long(),
        observe=observe,
    )
    assert seen == about["nmask"]


def test_gumbel_max_draws_what_the_authors_generator_drew(golden, decoder):
    about, io, key = golden.info["E"][golden.with_noise], golden.io, f"E.{golden.with_noise}"
    name = golden.view_of(about["G"])
    layout, heads, states = golden.layout(name), heads_of(golden, decoder, full=False), []
    decode(
        evaluator(decoder, layout, golden.prefix(name), MaskMode.RELEASED, False),
        heads,
        StoredDraws(io, key, heads, layout.image_len, noise=key),
        layout=layout,
        settings=Jd3pSettings(steps=about["T"], freeze=False),
        observe=lambda step, given, drawn, state: states.append(state.int()),
    )
    assert torch.equal(torch.stack(states), io[f"{key}.gen"])


@pytest.mark.parametrize("cached", [False, True])
def test_every_state_of_the_papers_rule_is_the_golden_one(golden, decoder, cached):
    io, key = golden.io, f"E.{golden.with_noise}"
    wanted = io[next(k for k in io if k.startswith("E.paper_rule_") and k.endswith(".states"))]
    name = golden.view_of(wanted.shape[1])
    layout, heads, states = golden.layout(name), heads_of(golden, decoder, full=False), []
    decode(
        evaluator(decoder, layout, golden.prefix(name), MaskMode.HYBRID, cached),
        heads,
        StoredDraws(io, key, heads, layout.image_len, noise=key),
        layout=layout,
        settings=Jd3pSettings(steps=len(wanted), rule=UnmaskRule.PAPER),
        observe=lambda step, given, drawn, state: states.append(state.int()),
    )
    # Ours stops when nothing is masked; theirs goes through its steps.
    assert torch.equal(torch.stack(states), wanted[: len(states)])
    assert torch.equal(
        wanted[len(states) :], wanted[len(states) - 1 : len(states)].expand(len(wanted) - len(states), -1)
    )


def numbers_of(table):
    """Return steps, sites and known sites that the name of a table says."""
    return [int(number) for number in re.findall(r"_(?:T|L|prefilled)(\d+)", table)]


def test_counts_of_the_released_rule_are_the_tables(golden, counts):
    steps, sites, known = numbers_of(counts)
    unknown, found = sites - known, []
    for number in masked_after(sites, steps=steps):
        unknown = max(1, min(unknown - 1, number))
        found.append(unknown)
    assert found == golden.info["E"]["mask_count_tables"][counts]


def test_counts_of_the_papers_rule_are_those_of_its_decoding(golden):
    rule = golden.info["E"][next(k for k in golden.info["E"] if k.startswith("paper_rule_"))]
    masked, steps, kept = rule["masked_after"][0] + rule["k_per_step"][0], len(rule["k_per_step"]), []
    for step in range(steps):
        kept.append(kept_by_paper(masked, step=step, steps=steps) if masked else 0)
        masked -= kept[-1]
    assert kept == rule["k_per_step"]


def test_counts_of_the_papers_rule_are_the_tables_until_its_last_step(golden):
    table = golden.info["E"]["mask_count_tables"].get("paper_T72_L817_prefilled5")
    if table is None:
        pytest.skip("no table of the paper's rule at real length")
    masked, counts = 812, []
    for step in range(72):
        masked -= kept_by_paper(masked, step=step, steps=72) if masked else 0
        counts.append(masked)
    assert counts == table
