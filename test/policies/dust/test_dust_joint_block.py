# SPDX-License-Identifier: Apache-2.0
"""Our joint block against diffusers' MM-DiT block of Stable Diffusion 3."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention import JointTransformerBlock
from torch import Tensor, nn

from wam.policies.dust.blocks import StreamBlock, joint_attention
from wam.policies.dust.readings import BlockStyle

WIDTH, HEADS = 24, 4

OURS = {"a": "", "o": "_context"}


class OwnTime(nn.Module):
    """Feeds a norm the embedding of its own stream: the paper's modification (Figure 6)."""

    def __init__(self, norm: nn.Module, time: Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.time = time

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.norm(x, emb=self.time)


def diffusers_block(halves: dict[str, StreamBlock]) -> JointTransformerBlock:
    """Return diffusers' block with our weights; `a` is their image stream, `o` their context stream."""
    theirs = JointTransformerBlock(WIDTH, HEADS, WIDTH // HEADS, context_pre_only=False, qk_norm=None)
    names = {
        "a": (
            "norm1.linear",
            "attn.to_q",
            "attn.to_k",
            "attn.to_v",
            "attn.to_out.0",
            "ff.net.0.proj",
            "ff.net.2",
        ),
        "o": (
            "norm1_context.linear",
            "attn.add_q_proj",
            "attn.add_k_proj",
            "attn.add_v_proj",
            "attn.to_add_out",
            "ff_context.net.0.proj",
            "ff_context.net.2",
        ),
    }
    state = {}
    for stream, half in halves.items():
        for theirs_name, ours_name in zip(
            names[stream], ("ada", "to_q", "to_k", "to_v", "to_out", "ff1", "ff2"), strict=True
        ):
            layer = half.get_submodule(ours_name)
            state.update({f"{theirs_name}.{leaf}": t for leaf, t in layer.state_dict().items()})
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("shared_time", [True, False], ids=["one embedding", "one embedding per stream"])
@torch.no_grad()
def test_a_joint_block_is_the_mmdit_block(shared_time: bool) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    halves = {s: StreamBlock(WIDTH, heads=HEADS, style=BlockStyle.SD3) for s in "ao"}
    for half in halves.values():
        for parameter in half.parameters():
            nn.init.normal_(parameter, std=0.2)
    x = {"a": torch.randn(2, 5, WIDTH), "o": torch.randn(2, 9, WIDTH)}
    time_a = torch.randn(2, WIDTH)
    time_o = time_a if shared_time else torch.randn(2, WIDTH)
    theirs = diffusers_block(halves)
    if not shared_time:
        theirs.norm1_context = OwnTime(theirs.norm1_context, time_o)
    want_o, want_a = theirs(hidden_states=x["a"], encoder_hidden_states=x["o"], temb=time_a)

    mods = {
        s: half.modulation(nn.functional.silu(t))
        for (s, half), t in zip(halves.items(), (time_a, time_o), strict=True)
    }
    attended = joint_attention([halves[s].qkv(x[s], mods[s]) for s in "ao"], heads=HEADS)
    for stream, rows, want in zip("ao", attended, (want_a, want_o), strict=True):
        have = halves[stream].after(x[stream], rows, mods[stream])
        torch.testing.assert_close(have, want, atol=2e-5, rtol=0)
