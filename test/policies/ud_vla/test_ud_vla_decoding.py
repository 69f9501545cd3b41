# SPDX-License-Identifier: Apache-2.0
"""Decoding without golden vectors: the law of the draws, EOA, limits, baselines, an overfitted policy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from wam.core.errors import ConfigError, InputError
from wam.policies.ud_vla.baselines import Plan, autoregressive, independent, jacobi
from wam.policies.ud_vla.config import MaskMode, preset
from wam.policies.ud_vla.decoder import UdVlaDecoder
from wam.policies.ud_vla.fast import fit
from wam.policies.ud_vla.initialise import random_decoder
from wam.policies.ud_vla.jd3p import (
    Cached,
    Heads,
    Jd3pSettings,
    Uncached,
    UnmaskRule,
    decode,
    prefix_mask,
)
from wam.policies.ud_vla.sampling import DrawMethod, GreedyDraws, RandomDraws, drawn_at, invert, race
from wam.policies.ud_vla.sequence import SequenceLayout
from wam.policies.ud_vla.tokens import compact
from wam.policies.ud_vla.training.config import UdVlaOptimSection
from wam.policies.ud_vla.training.objective import (
    CleanChunk,
    MaskLaw,
    ObjectiveConfig,
    TrainingStage,
    masked_chunk,
    masked_share,
)
from wam.policies.ud_vla.training.trainable import UdVlaCodes, UdVlaTrainable
from wam.training.loop import Trainer, make_optimiser
from wam.training.options import Precision
from wam.training.parallel import World

ROWS, DIMS = 8, 3


@pytest.fixture(scope="module")
def parts():
    torch.set_num_threads(1)
    config = replace(preset("tiny"), action_len=26)
    layout = SequenceLayout(config.tokens, ((3, 3), (2, 2)), config.action_len)
    decoder = random_decoder(config, seed=3)
    rng = torch.Generator().manual_seed(5)
    codes = [torch.randint(0, 64, grid, generator=rng) for grid in layout.grids]
    return decoder, layout, layout.prefix([1, 2, 3], codes), Heads.of(decoder, layout)


def draws(seed=0, method=DrawMethod.INVERSE):
    return RandomDraws(torch.Generator().manual_seed(seed), method=method)


@pytest.mark.parametrize("method", list(DrawMethod))
def test_both_ways_to_draw_follow_the_softmax(method):
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(1))
    many = 40_000
    drawn = draws(2, method).tokens(logits.repeat(many, 1), step=0, image=True, sites=torch.arange(many))
    expected = many * logits.softmax(-1)[0]
    counts = torch.bincount(drawn.columns, minlength=50)
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert chi2 < 49 + 5 * math.sqrt(2 * 49)
    p = logits.softmax(-1)[0]
    assert torch.allclose(drawn.log_p, p.log()[drawn.columns], atol=1e-5)
    assert torch.allclose(drawn.max_p, p.max().expand(many), atol=1e-6)


def test_inverse_draw_never_takes_an_id_of_no_weight():
    """Rounding at the ends of the distribution must not select a forbidden id."""
    logits = torch.full((4, 10), float("-inf"))
    logits[:, 3], logits[:, 7] = 0.0, 0.0
    drawn = invert(logits, torch.tensor([0.0, 0.4999999, 0.5, 1 - 2**-24]))
    assert drawn.columns.tolist() == [3, 3, 7, 7]


def test_gumbel_race_takes_the_smallest_noise_per_weight():
    drawn = race(torch.zeros(1, 3), torch.tensor([[3.0, 1.0, 2.0]]))
    assert drawn.columns.tolist() == [1]
    assert float(drawn.log_p) == pytest.approx(-math.log(3))


@pytest.mark.parametrize("rule", list(UnmaskRule))
@pytest.mark.parametrize("steps", [1, 2, 9, 200])
def test_every_site_is_filled_with_an_id_of_its_kind_for_any_number_of_steps(parts, rule, steps):
    decoder, layout, prefix, heads = parts
    evaluate = Uncached(decoder, prefix, layout=layout, mode=MaskMode.HYBRID)
    out = decode(evaluate, heads, draws(), layout=layout, settings=Jd3pSettings(steps=steps, rule=rule))
    known = layout.start != layout.tokens.mask
    assert torch.equal(out.ids[known], layout.start[known])
    image, action = out.ids[: layout.image_len], out.ids[layout.image_len :]
    free = ~known[: layout.image_len]
    assert torch.isin(image[free], layout.image_vocabulary()).all()
    body = layout.action_ids_of(action)
    assert layout.tokens.from_action(body).numel() == len(body)
    tail = action[1 + len(body) + 1 :]
    assert (tail == layout.tokens.mask).all()
    assert out.evaluations <= steps


def test_sites_behind_an_eoa_stay_masked_and_give_their_budget_back(parts):
    """The public code goes on drawing them, so that they use up the sites that a step may keep."""
    decoder, layout, prefix, heads = parts
    start = layout.start.clone()
    start[layout.image_len + 4] = layout.tokens.eoa
    evaluate, left = Uncached(decoder, prefix, layout=layout, mode=MaskMode.HYBRID), []

    def observe(step, given, drawn, state):
        tail = slice(layout.image_len + 5, None)
        assert (state[tail] == layout.tokens.mask).all()
        assert (drawn[tail] == layout.tokens.mask).all()
        left.append(int((state[: layout.image_len + 5] == layout.tokens.mask).sum()))

    decode(
        evaluate,
        heads,
        draws(),
        layout=layout,
        settings=Jd3pSettings(steps=4),
        start_G=start,
        observe=observe,
    )
    active = layout.image_len + 5
    unknown = int((start[:active] == layout.tokens.mask).sum())
    wanted = [math.floor(active * math.cos(math.pi / 2 * s / 4)) for s in (1, 2, 3)]
    assert left == [min(unknown - 1, wanted[0]), *wanted[1:], 1]


def test_eoa_in_the_last_slot_leaves_the_prompt_alone(parts):
    """The public code then masks its whole input, prompt included."""
    decoder, layout, prefix, heads = parts
    start = layout.start.clone()
    start[-1] = layout.tokens.eoa
    before, given_prefix = prefix.clone(), start.clone()
    seen = []
    decode(
        Uncached(decoder, prefix, layout=layout, mode=MaskMode.RELEASED),
        heads,
        draws(),
        layout=layout,
        settings=Jd3pSettings(steps=2),
        start_G=start,
        observe=lambda step, given, drawn, state: seen.append(given[0].item()),
    )
    assert torch.equal(prefix, before)
    assert torch.equal(start, given_prefix)
    assert seen == [layout.tokens.boi] * 2


def test_the_kept_prefix_decodes_the_same_tokens(parts):
    decoder, layout, prefix, heads = parts
    with torch.inference_mode():
        kv, _ = decoder.prefill(prefix[None], prefix_mask(layout, prefix, torch.float32))
    settings = Jd3pSettings(steps=6)
    whole, kept = (
        decode(evaluate, heads, draws(7), layout=layout, settings=settings).ids
        for evaluate in (
            Uncached(decoder, prefix, layout=layout, mode=MaskMode.HYBRID),
            Cached(decoder, kv, layout=layout, mode=MaskMode.HYBRID),
        )
    )
    assert torch.equal(whole, kept)


def test_a_kept_prefix_is_refused_under_the_released_mask(parts):
    decoder, layout, prefix, _ = parts
    with torch.inference_mode():
        kv, _ = decoder.prefill(prefix[None], prefix_mask(layout, prefix, torch.float32))
    with pytest.raises(ConfigError, match="released"):
        Cached(decoder, kv, layout=layout, mode=MaskMode.RELEASED)


def test_fewer_than_one_step_is_refused():
    with pytest.raises(ConfigError, match=r"sampler.steps: got 0"):
        Jd3pSettings(steps=0)


def test_jacobi_gives_what_greedy_autoregressive_decoding_gives(parts):
    decoder, layout, prefix, heads = parts
    plan = Plan.of(layout)
    one_by_one = autoregressive(decoder, prefix, plan, heads, GreedyDraws())
    at_once = jacobi(decoder, prefix, plan, heads, run=7)
    assert torch.equal(one_by_one.ids, at_once.ids)
    assert one_by_one.evaluations == layout.generated_len


def test_independent_diffusion_fills_the_image_before_the_action(parts):
    decoder, layout, prefix, heads = parts
    evaluate = Uncached(decoder, prefix, layout=layout, mode=MaskMode.HYBRID)
    out = independent(evaluate, heads, draws(), layout=layout, settings=Jd3pSettings(steps=6))
    assert out.evaluations == 6
    assert (out.ids[: layout.image_len] != layout.tokens.mask).all()
    with pytest.raises(ConfigError, match="from 2"):
        independent(evaluate, heads, draws(), layout=layout, settings=Jd3pSettings(steps=1))


def test_both_mask_laws_keep_their_share():
    layout = SequenceLayout(compact(visual_count=64, action_count=65), ((20, 20),), 402)
    t = layout.tokens
    future = layout.image_block([torch.zeros(20, 20, dtype=torch.int64)])
    chunk = CleanChunk(torch.tensor([t.bos]), future, layout.action_block([1] * 400))
    for law in MaskLaw:
        shares = []
        for seed in range(60):
            rng = torch.Generator().manual_seed(seed)
            ids, _ = masked_chunk(chunk, config=ObjectiveConfig(law=law), tokens=t, generator=rng)
            masked = ids[1:] == t.mask
            shares.append(
                [float(masked[: layout.image_len].float().mean()), float(masked[-402:].float().mean())]
            )
        apart = np.abs(np.diff(np.array(shares))).max()
        assert (apart < 0.02) == (law is MaskLaw.JOINT)
    assert masked_share(0.0) == 1.0
    assert masked_share(0.9999) == pytest.approx(0.1)


def test_an_overfitted_policy_decodes_the_action_of_its_only_batch():
    """Masked cross-entropy falls below 5 % of its start, and then JD3P returns the very tokens."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    data = [
        0.8
        * np.sin(rng.normal(size=(1, DIMS)) + rng.normal(size=(1, DIMS)) * np.linspace(0, 1, ROWS)[:, None])
        for _ in range(60)
    ]
    fast = fit(data, scale=10, vocab_size=96)
    tokens = compact(visual_count=64, action_count=fast.vocab_size)
    config = replace(preset("tiny"), hidden=64, ffn=128, layers=2, tokens=tokens, action_len=26)
    layout = SequenceLayout(tokens, ((3, 3),), config.action_len)
    texts = tuple(torch.tensor([tokens.bos, 10 + i, 3, 4]) for i in range(2))
    actions = torch.stack([layout.action_block(fast.encode(rows)) for rows in data[:2]])
    batch = UdVlaCodes(texts, (torch.randint(0, 64, (2, 2, 3, 3)),), actions)
    decoder = UdVlaDecoder(config)
    options = UdVlaOptimSection(
        steps=500,
        accumulate=1,
        learning_rate=4e-3,
        final_fraction=0.025,
        warmup_fraction=0.04,
        weight_decay=0.0,
        precision=Precision.FLOAT32,
    )
    trainable = UdVlaTrainable(decoder, layout=layout, stage=TrainingStage.JD3P, objective=ObjectiveConfig())
    trainer = Trainer(
        trainable,
        make_optimiser(trainable, options),
        source=OneBatch(batch),
        options=options,
        total=500,
        seed=0,
        world=World(0, 1, torch.device("cpu")),
    )
    losses = []
    trainer.run(until=500, on_step=lambda record: losses.append(record.losses["total"]))
    assert np.mean(losses[-20:]) < 0.05 * losses[0]
    decoder.eval().requires_grad_(False)
    heads = Heads.of(decoder, layout)
    for i, rows in enumerate(data[:2]):
        prefix = torch.cat((texts[i], layout.image_block([batch.codes[0][i, 0]])))
        evaluate = Uncached(decoder, prefix, layout=layout, mode=MaskMode.HYBRID)
        out = decode(evaluate, heads, draws(), layout=layout, settings=Jd3pSettings(steps=24))
        assert torch.equal(out.ids[layout.image_len :], actions[i])
        action = tokens.from_action(layout.action_ids_of(out.ids[layout.image_len :]))
        decoded = fast.decode(action.tolist(), rows=ROWS, dims=DIMS)
        assert decoded.valid
        assert np.abs(decoded.rows - rows).max() < 0.2


class OneBatch:
    """A source that gives one batch again and again."""

    def __init__(self, batch):
        self.batch = batch
        self.sampler = [0]

    def stream(self, position, device):
        while True:
            yield self.batch


def test_a_drawn_column_has_the_probability_that_it_says():
    logits = torch.tensor([[0.0, math.log(3.0)]])
    drawn = drawn_at(logits, torch.tensor([1]))
    assert float(drawn.log_p.exp()) == pytest.approx(0.75)


def test_tokens_of_the_wrong_modality_are_refused():
    layout = SequenceLayout(compact(visual_count=64, action_count=65), ((2, 2),), 6)
    with pytest.raises(InputError, match=r"image code of the wrong kind: got 64; allowed: 0 \.\. 63"):
        layout.image_block([torch.full((2, 2), 64)])
    with pytest.raises(InputError, match="action token of the wrong kind: got 65"):
        layout.action_block([65])
    with pytest.raises(InputError, match="id of an image code of the wrong kind"):
        layout.codes_of(torch.full((layout.image_len,), layout.tokens.boa))
    with pytest.raises(InputError, match="id of an action token of the wrong kind"):
        layout.tokens.from_action(torch.tensor([layout.tokens.mask]))


def test_an_action_chunk_that_does_not_fit_is_refused():
    """The public data loader crashes on a negative padding length."""
    layout = SequenceLayout(compact(visual_count=64, action_count=65), ((2, 2),), 6)
    assert len(layout.action_block([1, 2, 3, 4])) == 6
    with pytest.raises(InputError, match="5 tokens does not fit the action block; allowed: at most 4"):
        layout.action_block([1, 2, 3, 4, 5])
