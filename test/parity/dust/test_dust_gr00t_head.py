# SPDX-License-Identifier: Apache-2.0
"""GR00T-N1's action head, as its authors' code runs it, is our action stream without a trunk."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from wam.policies.dust.convert.gr00t_names import to_ours
from wam.policies.dust.encoders import sinusoid, time_channels
from wam.policies.dust.readings import TIME_BUCKETS
from wam.policies.dust.sampling import sample
from wam.policies.dust.schedule import ALL_SAVINGS, NO_SAVINGS, SamplerSettings, schedule
from wam.policies.dust.training.losses import DustBatch, DustDraws, TimeLaw, losses, tau_from_beta

pytestmark = pytest.mark.parity

OURS = "head."


def close(have: Tensor, want: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(have, want, atol=atol, rtol=0, check_dtype=False)


def batch_of(io) -> DustBatch:
    return DustBatch(
        state=io["in.state"],
        action=io["in.action"],
        action_mask=io["in.action_mask"],
        target=None,
        slot=io["in.embodiment_id"],
    )


def draws_of(io, prefix: str) -> DustDraws:
    return DustDraws(
        tau_a=tau_from_beta(io[f"{prefix}.draw.beta"], TimeLaw.N1),
        eps_a=io[f"{prefix}.draw.noise"],
        tau_o=None,
        eps_o=None,
    )


def test_velocities_and_every_block_agree_at_given_noise_levels(n1) -> None:
    io, head = n1.io, n1.net
    close(time_channels(io["vel.bucket"]), io["vel.time_proj"])
    close(sinusoid(io["vel.bucket"], width=n1.config.width), io["vel.sincos"])
    row = io["vel.row"]
    seen: dict[str, Tensor] = {}
    with torch.no_grad():
        v = head(
            head.project_features(io["in.vl_features"][row]),
            state_BTJ=io["in.state"][row],
            action_BNA=io["vel.noisy_action"],
            future_BPO=None,
            bucket_a=io["vel.bucket"],
            bucket_o=None,
            slot=io["in.embodiment_id"][row],
            probe=seen.__setitem__,
        )
        close(head.time_a(io["vel.bucket"]), io["vel.temb"])
    names = ["embed.a", *(f"tail{j}.a" for j in range(n1.config.tail_layers))]
    for name, want in zip(names, io["vel.all_hidden"], strict=True):
        close(seen[name], want)
    close(seen["trunk_out.a"], io["vel.dit_out"])
    close(v.action, io["vel.velocity"])


@pytest.mark.parametrize("savings", [NO_SAVINGS, ALL_SAVINGS], ids=["naive", "cached"])
def test_euler_sampling_agrees_step_by_step(n1, euler_steps: int, savings) -> None:
    io, head, steps = n1.io, n1.net, euler_steps
    plan = schedule(SamplerSettings(action_steps=steps), savings=savings)
    assert [e.bucket_a for e in plan.evaluations] == io[f"euler{steps}.buckets"].tolist()
    path = [io[f"euler{steps}.draw.noise"]]
    with torch.no_grad():
        kv = head.project_features(io["in.vl_features"])
        result = sample(
            head,
            features=kv if savings.features_once else lambda: head.project_features(io["in.vl_features"]),
            state_BTJ=io["in.state"],
            slot=io["in.embodiment_id"],
            action_BNA=path[0],
            future_BPO=None,
            plan=plan,
            trace=lambda _e, a, _o: path.append(a),
        )
    close(torch.stack(path), io[f"euler{steps}.trajectory"])
    close(result.action, io[f"euler{steps}.action_pred"])


def test_the_loss_and_its_gradients_agree(n1) -> None:
    io, head = n1.io, copy.deepcopy(n1.net)
    features = io["in.vl_features"].clone().requires_grad_()
    mask = io["in.vl_attention_mask"].bool()
    result = losses(head, features, mask, batch_of(io), draws_of(io, "loss"))
    close(result.joint, io["loss.value"], 2e-6)
    result.joint.backward()
    ours = {name: p.grad for name, p in head.named_parameters()}
    stored = {n.removeprefix("loss.grad."): g for n, g in io.items() if n.startswith("loss.grad.")}
    assert stored
    for name, want in stored.items():
        have = (
            features.grad
            if name == "in.vl_features"
            else ours[to_ours(f"action_head.{name}").removeprefix(OURS)]
        )
        close(have, want)
    norm = torch.stack([g.norm() for g in ours.values()]).norm()
    close(norm, io["loss.grad_norm_total"])


class Multiplier(nn.Module):
    """Dropout with a recorded outcome."""

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_dropout_sits_at_the_authors_four_places_of_every_block(n1) -> None:
    io, head = n1.io, copy.deepcopy(n1.net)
    for j, block in enumerate(head.tail_blocks(head.config.streams[0])):
        path = f"train.dropout.model.transformer_blocks.{j}."
        places = ("attn1.to_out.1", "final_dropout", "ff.net.1", "ff.net.3")
        assert all(isinstance(d, nn.Dropout) and d.p == n1.config.tail_dropout for d in block.dropouts)
        block.dropouts = nn.ModuleList(Multiplier(io[path + place]) for place in places)
    result = losses(head, io["in.vl_features"], None, batch_of(io), draws_of(io, "train"))
    close(result.joint, io["train.loss"])


def test_times_are_drawn_as_the_authors_draw_them(n1) -> None:
    tau = tau_from_beta(n1.io["time.beta"], TimeLaw.N1)
    close(tau, n1.io["time.t"], 1e-6)
    assert n1.info["config"]["num_timestep_buckets"] == TIME_BUCKETS


def test_hiding_padding_rows_is_our_addition_and_can_be_turned_off(n1) -> None:
    """The authors' head accepts the mask and ignores it, so a batched row depends on its padding."""
    head = n1.net
    assert head.project_features(n1.io["in.vl_features"], n1.io["in.vl_attention_mask"].bool()).mask is None
