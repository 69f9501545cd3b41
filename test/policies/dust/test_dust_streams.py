# SPDX-License-Identifier: Apache-2.0
"""The streams of a head for any weights: what reaches what, padding, batches, and GR00T-N1 as a special case."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention import Attention, FeedForward
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from wam.policies.dust.head import DustHead
from wam.policies.dust.readings import ActionPositions, BlockStyle, Conditioning, HeadLayout, HeadStream
from wam.policies.dust.records import FeatureKv

READINGS = {
    "sd3-alternate": {},
    "n1-alternate": {"style": BlockStyle.N1},
    "sd3-every": {"conditioning": Conditioning.EVERY},
    "n1-every": {"style": BlockStyle.N1, "conditioning": Conditioning.EVERY},
}
READING = pytest.mark.parametrize("reading", READINGS)


def close(have: Tensor, want: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(have, want, atol=atol, rtol=0)


class PlainN1(nn.Module):
    """GR00T-N1's transformer from diffusers' parts, with the weights of our head."""

    def __init__(self, head: DustHead) -> None:
        super().__init__()
        c = head.config
        self.config = c
        self.channels = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=1)
        self.time = TimestepEmbedding(256, c.width)
        self.time.load_state_dict(head.time_a.state_dict())
        self.attention, self.ffn, self.ada = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for block in head.tail_blocks(HeadStream.ACTION):
            attention = Attention(c.width, heads=c.heads, dim_head=c.head_dim, bias=True)
            ffn = FeedForward(c.width, activation_fn="gelu-approximate")
            for theirs, ours in (
                (attention.to_q, block.to_q),
                (attention.to_k, block.to_k),
                (attention.to_v, block.to_v),
                (attention.to_out[0], block.to_out),
                (ffn.net[0].proj, block.ff1),
                (ffn.net[2], block.ff2),
            ):
                theirs.load_state_dict(ours.state_dict())
            self.attention.append(attention)
            self.ffn.append(ffn)
            self.ada.append(block.ada)
        self.out = head.out[HeadStream.ACTION.value]

    def forward(self, x: Tensor, features: Tensor, bucket: Tensor) -> Tensor:
        y = F.silu(self.time(self.channels(bucket)))
        for i, (attention, ffn, ada) in enumerate(zip(self.attention, self.ffn, self.ada, strict=True)):
            scale, shift = ada(y)[:, None].chunk(2, dim=-1)
            normed = F.layer_norm(x, x.shape[-1:], eps=1e-5) * (1 + scale) + shift
            x = x + attention(normed, encoder_hidden_states=features if i % 2 == 0 else None)
            x = x + ffn(F.layer_norm(x, x.shape[-1:], eps=1e-5))
        shift, scale = self.out.proj_out_1(y)[:, None].chunk(2, dim=-1)
        return self.out.proj_out_2(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)


@torch.no_grad()
def test_without_a_trunk_the_action_stream_is_gr00t_n1s_head(case_of) -> None:
    case = case_of(mm_layers=0, tail_layers=4, mask_features=False, action_positions=ActionPositions.LEARNED)
    alone = case_of(
        mm_layers=0,
        tail_layers=4,
        mask_features=False,
        layout=HeadLayout.ACTION_ONLY,
        action_positions=ActionPositions.LEARNED,
    )
    own = {n: t for n, t in case.head.state_dict().items() if n in alone.head.state_dict()}
    alone.head.load_state_dict(own)
    both = case.velocities(state_BTJ=alone.state, action_BNA=alone.action, kv=None)
    kv = alone.head.project_features(case.features)
    only = alone.velocities(kv=kv)
    assert only.vision is None
    assert torch.equal(both.action, only.action)
    seen: dict[str, Tensor] = {}
    alone.velocities(kv=kv, probe=seen.__setitem__)
    plain = PlainN1(alone.head)
    close(seen["trunk_out.a"], plain(seen["embed.a"], case.features, torch.tensor([100, 500, 900])))


@READING
@torch.no_grad()
def test_padding_rows_of_the_features_have_no_influence(case_of, reading: str) -> None:
    case = case_of(**READINGS[reading])
    before = case.velocities()
    garbage = torch.where(case.mask[..., None], case.features, 100 * torch.randn_like(case.features))
    after = case.velocities(kv=case.head.project_features(garbage, case.mask))
    assert torch.equal(before.action, after.action)
    assert torch.equal(before.vision, after.vision)


@torch.no_grad()
def test_a_head_that_does_not_mask_lets_padding_through(case_of) -> None:
    case = case_of(mask_features=False)
    garbage = torch.where(case.mask[..., None], case.features, torch.zeros_like(case.features))
    other = case.velocities(kv=case.head.project_features(garbage, case.mask))
    assert not torch.allclose(case.velocities().action[1], other.action[1], atol=1e-3)


@READING
@torch.no_grad()
def test_a_batch_gives_what_its_rows_give_alone(case_of, reading: str) -> None:
    case = case_of(**READINGS[reading])
    together = case.velocities()
    bucket_a, bucket_o = torch.tensor([100, 500, 900]), torch.tensor([700, 50, 300])
    for i in range(3):
        row = slice(i, i + 1)
        alone = case.velocities(
            kv=case.head.project_features(case.features[row][:, case.mask[i]]),
            state_BTJ=case.state[row],
            action_BNA=case.action[row],
            future_BPO=case.future[row],
            bucket_a=bucket_a[row],
            bucket_o=bucket_o[row],
            slot=int(case.slot[i]),
        )
        close(alone.action, together.action[row])
        close(alone.vision, together.vision[row])


CHANGES = {
    "future embedding": (lambda c: {"future_BPO": c.future + 1}, "vision"),
    "noise level of the future": (lambda c: {"bucket_o": torch.tensor([10, 20, 30])}, "vision"),
    "actions": (lambda c: {"action_BNA": c.action + 1}, "action"),
    "state": (lambda c: {"state_BTJ": c.state + 1}, "action"),
    "noise level of the actions": (lambda c: {"bucket_a": torch.tensor([10, 20, 30])}, "action"),
}


@READING
@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_each_stream_depends_on_the_other_through_joint_blocks_alone(
    case_of, reading: str, change: str
) -> None:
    case = case_of(**READINGS[reading])
    changes, own = CHANGES[change]
    other = "action" if own == "vision" else "vision"
    before, after = case.velocities(), case.velocities(**changes(case))
    assert (getattr(before, other) - getattr(after, other)).abs().max() > 1e-4
    masked = case.velocities(decoupled=True), case.velocities(decoupled=True, **changes(case))
    assert torch.equal(getattr(masked[0], other), getattr(masked[1], other))
    assert not torch.equal(getattr(masked[0], own), getattr(masked[1], own))


@torch.no_grad()
def test_one_block_alone_is_a_cross_block_and_does_not_mix(case_of) -> None:
    case = case_of(mm_layers=1, tail_layers=1)
    assert torch.equal(case.velocities().action, case.velocities(future_BPO=case.future + 1).action)


@torch.no_grad()
def test_the_future_embeddings_noise_level_does_not_touch_the_action_stream_before_the_first_joint_block(
    case_of,
) -> None:
    case = case_of()
    seen: list[dict[str, Tensor]] = []
    for bucket in (100, 800):
        seen.append({})
        case.velocities(bucket_o=torch.tensor([bucket]), probe=seen[-1].__setitem__)
    for name in ("embed.a", "mm0.a"):
        assert torch.equal(seen[0][name], seen[1][name])
    for name in ("mm0.o", "mm1.a", "tail1.a"):
        assert not torch.equal(seen[0][name], seen[1][name])


@torch.no_grad()
def test_a_shared_time_encoder_still_tells_the_streams_apart(case_of) -> None:
    case = case_of(shared_time=True)
    assert not any(n.startswith("time_o") for n in case.head.state_dict())
    same = case.velocities(bucket_a=torch.tensor([300]), bucket_o=torch.tensor([300]))
    split = case.velocities(bucket_a=torch.tensor([300]), bucket_o=torch.tensor([900]))
    assert not torch.equal(same.vision, split.vision)


@torch.no_grad()
def test_keeping_one_robots_encoders_does_not_change_its_actions(case_of) -> None:
    case = case_of()
    kept = copy.deepcopy(case.head)
    kept.keep_embodiment(2)
    inputs = {"state_BTJ": case.state, "action_BNA": case.action, "future_BPO": case.future}
    levels = {"bucket_a": torch.tensor([5]), "bucket_o": torch.tensor([6])}
    before = case.head(case.kv(), **inputs, **levels, slot=2)
    after = kept(case.kv(), **inputs, **levels, slot=0)
    assert torch.equal(before.action, after.action)
    by_row = case.head(case.kv(), **inputs, **levels, slot=torch.tensor([2, 2, 2]))
    close(by_row.action, before.action)


def test_features_may_be_stacked_or_listed(case_of) -> None:
    case = case_of()
    kv = case.kv()
    stacked = FeatureKv(torch.stack(list(kv.k)), torch.stack(list(kv.v)), kv.mask)
    assert torch.equal(case.velocities(kv=kv).action, case.velocities(kv=stacked).action)
