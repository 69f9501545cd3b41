# SPDX-License-Identifier: Apache-2.0
"""Faults of the public code that are not reproduced, each by its number in the list of what was found by running it.

B3 and B12 are in `test_ud_vla_decoding` (EOA in the last slot, sites behind an EOA), B4 in both `test_ud_vla_decoding`
and `test_ud_vla_run` (a chunk that does not fit), B10 in `test_ud_vla_run` (a sample does not depend on earlier ones).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from wam.core.errors import ConfigError, InputError
from wam.policies.ud_vla import masks
from wam.policies.ud_vla.baselines import Plan, autoregressive, independent, jacobi
from wam.policies.ud_vla.config import MaskMode, preset
from wam.policies.ud_vla.fast import FastTokenizer, plain, rows_of
from wam.policies.ud_vla.initialise import random_decoder
from wam.policies.ud_vla.jd3p import Heads, Jd3pSettings, Uncached, decode
from wam.policies.ud_vla.sampling import GreedyDraws, RandomDraws
from wam.policies.ud_vla.sequence import SequenceLayout
from wam.policies.ud_vla.tokens import RELEASED

ROWS, DIMS = 4, 3


@pytest.fixture(scope="module")
def byte_level():
    """A vocabulary over UTF-8 bytes, as the published ones are: coefficients from 128 on take two tokens."""
    units = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(BPE({unit: i for i, unit in enumerate(units)}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    return FastTokenizer(bpe, scale=50.0, min_token=-100, vocab_size=len(units))


@pytest.fixture(scope="module")
def parts():
    torch.set_num_threads(1)
    config = replace(preset("tiny"), action_len=14)
    layout = SequenceLayout(config.tokens, ((2, 2),), config.action_len)
    decoder = random_decoder(config, seed=4)
    prefix = layout.prefix([1, 2], [torch.tensor([[1, 2], [3, 4]])])
    return decoder, layout, prefix, Heads.of(decoder, layout)


def test_b1_ill_formed_utf8_gives_a_refused_chunk_inside_the_statistics(byte_level):
    """A lone continuation byte decodes to U+FFFD, which the public code takes for coefficient 65375."""
    good = byte_level.encode(0.5 * np.sin(np.arange(ROWS)[:, None] + np.arange(DIMS)))
    assert byte_level.decode(good, rows=ROWS, dims=DIMS).valid
    lone = [t for t in range(byte_level.vocab_size) if 0x80 <= byte_level._bytes[t][0] < 0xC0]
    assert len(lone) == 64
    for token in lone[::13]:
        chunk = byte_level.decode([token] * (ROWS * DIMS), rows=ROWS, dims=DIMS)
        assert not chunk.valid
        assert "outside the alphabet" in chunk.problems[0]
        assert np.abs(chunk.rows).max() <= 1.0


@pytest.mark.parametrize("stranger", [-5, 65])
def test_b2_a_token_outside_the_vocabulary_is_a_refused_chunk(stranger):
    """One past the vocabulary decoded to nothing; a negative one (a mask that leaked) gave the zero chunk."""
    fast = plain(limit=32, scale=16.0)
    good = fast.encode(np.full((ROWS, DIMS), 0.25))
    assert fast.decode(good, rows=ROWS, dims=DIMS).valid
    for tokens in ([*good[:3], stranger, *good[3:]], [stranger]):
        chunk = fast.decode(tokens, rows=ROWS, dims=DIMS)
        assert not chunk.valid
        assert "outside the vocabulary" in chunk.problems[0]


def test_b2_an_id_outside_the_vocabulary_is_never_drawn_and_no_action():
    vocabulary = RELEASED.action_vocabulary()
    assert RELEASED.action_last - RELEASED.action_count not in vocabulary
    assert len(vocabulary) == RELEASED.action_count + 1
    for stranger in (RELEASED.action_last - RELEASED.action_count, RELEASED.mask):
        with pytest.raises(InputError, match="id of an action token of the wrong kind"):
            RELEASED.from_action(torch.tensor([stranger]))


@pytest.mark.parametrize("count", [0, ROWS * DIMS - 1, ROWS * DIMS + 1])
def test_b2_missing_and_surplus_coefficients_are_a_refused_chunk(count):
    """They were filled up with zeros at the end, or cut."""
    chunk = plain(limit=32, scale=16.0).decode([32] * count, rows=ROWS, dims=DIMS)
    assert chunk.problems == (f"{count} coefficients instead of {ROWS * DIMS}",)


def test_b5_jacobi_runs_on_weights_of_either_mask_and_keeps_what_it_found(parts):
    """With the public code's mask it crashed; stopped early, its cache belonged to the point before."""
    decoder, layout, prefix, _ = parts
    released = random_decoder(replace(decoder.config, mask=MaskMode.RELEASED), seed=4)
    plan = Plan.of(layout)
    for weights in (decoder, released):
        heads = Heads.of(weights, layout)
        greedy = autoregressive(weights, prefix, plan, heads, GreedyDraws())
        for run in (1, 5, layout.generated_len):
            assert torch.equal(jacobi(weights, prefix, plan, heads, run=run).ids, greedy.ids)


def test_b6_autoregression_is_causal_on_weights_of_either_mask(parts):
    """The public code builds the mask from the newest token alone, as if it were text."""
    decoder, layout, prefix, _ = parts
    released = random_decoder(replace(decoder.config, mask=MaskMode.RELEASED), seed=4)
    heads = Heads.of(released, layout)
    out = autoregressive(released, prefix, Plan.of(layout), heads, GreedyDraws()).ids
    ids = torch.cat((prefix, out))[None]
    with torch.inference_mode():
        hidden = released.hidden(ids, masks.additive(masks.causal(ids, layout.tokens)))[0]
    rows = hidden[len(prefix) - 1 : -1]
    for site in (layout.start == layout.tokens.mask).nonzero()[:, 0].tolist():
        head = heads.image if site < layout.image_len else heads.action
        assert head.vocabulary[head(rows[site][None]).argmax()] == out[site]


def test_b7_a_boolean_mask_is_refused_because_it_would_be_added(parts):
    decoder, layout, prefix, _ = parts
    allowed = masks.causal(prefix[None], layout.tokens)
    additive = masks.additive(allowed)
    assert set(additive.unique().tolist()) == {0.0, float("-inf")}
    for call in (decoder.hidden, decoder.prefill):
        call(prefix[None], additive)
        with pytest.raises(TypeError, match="additive"):
            call(prefix[None], allowed[:, None])


def test_b8_the_callers_ids_stay_as_they_are(parts):
    decoder, layout, prefix, heads = parts
    given, start = prefix.clone(), layout.start.clone()
    evaluate = Uncached(decoder, given, layout=layout, mode=MaskMode.RELEASED)
    decode(
        evaluate,
        heads,
        RandomDraws(torch.Generator().manual_seed(0)),
        layout=layout,
        settings=Jd3pSettings(steps=3),
        start_G=start,
    )
    assert torch.equal(given, prefix)
    assert torch.equal(start, layout.start)


def test_b9_there_is_no_action_decay_rate():
    """It wrote -100 into a probability."""
    with pytest.raises(ConfigError, match="action_decay_rate"):
        Jd3pSettings.from_dict({"steps": 8, "action_decay_rate": 0.5})


def test_b11_symbols_that_look_like_punctuation_are_not_cleaned_up():
    """The library's clean-up drops the blank of " .", which here are coefficients 0 and 14."""
    fast = plain(limit=32, scale=16.0)
    symbols = [ord(c) for c in " . , ? ! n't"]
    assert all(s <= 64 for s in symbols[:8])
    tokens = symbols[:8]
    chunk = fast.decode(tokens, rows=4, dims=2)
    wanted = rows_of((np.array(tokens) - 32).reshape(4, 2), 16.0)
    np.testing.assert_allclose(chunk.rows, np.clip(wanted, -1, 1), atol=1e-12)


class Noise:
    """Draws the likeliest token; confidence noise prefers early or late sites, from a given call on."""

    def __init__(self, *, late_from: int) -> None:
        self._greedy, self._late_from, self._calls = GreedyDraws(), late_from, 0

    def tokens(self, logits_RV, *, step, image, sites):
        return self._greedy.tokens(logits_RV, step=step, image=image, sites=sites)

    def gumbel(self, sites, *, step):
        self._calls += 1
        order = 1000.0 * torch.arange(sites)
        return order if self._calls > self._late_from else -order


def test_each_stage_of_the_two_stage_sampler_has_its_own_temperature(parts):
    """It was a product that the second stage took over at zero, so that no noise chose among its sites."""
    decoder, layout, prefix, heads = parts
    evaluate = Uncached(decoder, prefix, layout=layout, mode=MaskMode.HYBRID)
    settings = Jd3pSettings(steps=10)
    image_steps = 7
    outcomes = [
        independent(evaluate, heads, Noise(late_from=late), layout=layout, settings=settings).ids
        for late in (image_steps, 10**6)
    ]
    assert torch.equal(*(ids[: layout.image_len] for ids in outcomes))
    assert not torch.equal(*outcomes)
