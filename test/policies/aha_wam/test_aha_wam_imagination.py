# SPDX-License-Identifier: Apache-2.0
"""What AHA-WAM's video DiT expects, sampled only when asked for, and compared as pixels with what came."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wam.core.context import PlannerContext
from wam.core.contract import PolicyContract
from wam.core.errors import BundleError
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.core.policy import Foreseeing, LoadedPolicy, Perceiving
from wam.data.fakes import fake_robot, write_fake_bag
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.events import read_events
from wam.evaluation.replay.session import replay
from wam.models.bundle import Bundle
from wam.models.robot_layout import RobotLayout
from wam.policies.aha_wam import imagination
from wam.policies.aha_wam.config import Latents
from wam.policies.aha_wam.imagination import PIXELS, STEPS
from wam.policies.aha_wam.planner import AhaPlanner
from wam.policies.aha_wam.policy import make_tiny
from wam.policies.aha_wam.vae import autoencoder
from wam.policies.aha_wam.video_dit import VideoDit
from wam.policies.bundles import load_policy

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000
TASK = Instruction("fold the towel")
ROBOT = fake_robot()


def tiny(folder: Path, *, latents: Latents = Latents.PIXELS, **overrides: Any) -> Bundle:
    layout: RobotLayout = RobotLayout.of(ROBOT)
    return make_tiny(folder, robot=layout, seed=0, overrides={"latents": latents, **overrides})


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny(tmp_path_factory.mktemp("aha") / "bundle").directory


@pytest.fixture
def policy(bundle_dir: Path) -> LoadedPolicy:
    return load_policy(bundle_dir)


def observe(contract: PolicyContract, stamp_ns: int, *, seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    frames = {
        name: CameraFrame(name, stamp_ns, rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        for name in contract.camera_names
    }
    joints = contract.state_joints
    state = RobotState(stamp_ns, joints, np.zeros(len(joints)), np.zeros(len(joints)))
    return Observation(stamp_ns, frames, state)


def planner_of(policy: LoadedPolicy) -> AhaPlanner:
    assert isinstance(policy.planner, AhaPlanner)
    assert isinstance(policy.planner, Foreseeing)
    assert isinstance(policy.planner, Perceiving)
    return policy.planner


def plan(policy: LoadedPolicy, stamp_ns: int, *, seed: int = 0) -> PlannerContext[Any]:
    return planner_of(policy).plan(observe(policy.contract, stamp_ns, seed=seed), instruction=TASK)


def test_a_network_that_knows_the_future_imagines_that_picture(
    policy: LoadedPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = planner_of(policy)
    plan(policy, START_NS)
    future = observe(policy.contract, START_NS, seed=9)
    target = planner.vision.latent(future)
    passes: list[float] = []

    def velocity(self: VideoDit, z: Tensor, t: Tensor, **_: Any) -> tuple[Tensor, None]:
        sigma = float(t[0, -1]) / 1000
        assert float(t[0, 0]) == 0.0, "the newest image is clean"
        passes.append(sigma)
        return torch.cat((z[:, :, :1], (z[:, :, 1:] - target) / sigma), dim=2), None

    monkeypatch.setattr(VideoDit, "forward", velocity)
    foreseen = planner.foresee()
    assert foreseen is not None
    assert passes == [], "nothing is computed before it is asked for"
    pixels = foreseen.features()[PIXELS]
    assert pixels == pytest.approx(planner.perceive(future)[PIXELS], abs=1e-4)
    assert len(passes) == STEPS
    assert sorted(passes, reverse=True) == passes
    foreseen.features()
    assert len(passes) == STEPS, "it is computed once"
    camera = policy.contract.camera_names[0]
    frame = foreseen.frame(camera)
    assert frame is not None
    assert (frame.camera, frame.stamp_ns, frame.rgb.dtype) == (camera, foreseen.target_stamp_ns, np.uint8)
    assert foreseen.frame("elbow") is None


def test_the_imagined_time_is_that_of_the_next_latent_frame(policy: LoadedPolicy) -> None:
    plan(policy, START_NS)
    foreseen = planner_of(policy).foresee()
    assert foreseen is not None
    assert foreseen.stamp_ns == START_NS
    assert foreseen.target_stamp_ns == START_NS + 32 * policy.contract.control_period_ns


def test_the_newest_image_is_seen_as_the_plan_saw_it_with_its_memory(
    policy: LoadedPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frame 0 sees no later frame: its keys and values in the imagining pass are those of the prefill."""
    planner = planner_of(policy)
    step_ns = 64 * policy.contract.control_period_ns
    for i in range(3):
        context = plan(policy, START_NS + i * step_ns, seed=i)
    foreseen = planner.foresee()
    assert foreseen is not None
    whole = VideoDit.forward
    exported: list[Any] = []

    def spy(self: VideoDit, *args: Any, **more: Any) -> Any:
        out = whole(self, *args, **more)
        exported.append((out[1], more["history"]))
        return out

    monkeypatch.setattr(VideoDit, "forward", spy)
    foreseen.features()
    kv, history = exported[-1]
    tokens = context.payload.k.shape[2]
    assert history.k.shape[2] == 2 * tokens
    assert torch.allclose(kv.k[:, :, :tokens], context.payload.k, atol=1e-5)
    assert torch.allclose(kv.v[:, :, :tokens], context.payload.v, atol=1e-5)


def test_imagining_changes_nothing_that_is_executed(bundle_dir: Path) -> None:
    keys = []
    for asked in (False, True):
        policy = load_policy(bundle_dir)
        for i in range(3):
            context = plan(policy, START_NS + i * 64 * policy.contract.control_period_ns, seed=i)
            foreseen = planner_of(policy).foresee()
            if asked and foreseen is not None:
                foreseen.features()
        keys.append(context.payload.k)
    assert torch.equal(keys[0], keys[1])


def test_before_the_first_plan_and_after_a_reset_nothing_is_foreseen(policy: LoadedPolicy) -> None:
    planner = planner_of(policy)
    assert planner.foresee() is None
    plan(policy, START_NS)
    planner.reset()
    assert planner.foresee() is None


def test_a_vae_without_its_decoder_cannot_show_a_future(tmp_path: Path) -> None:
    policy = load_policy(tiny(tmp_path / "bundle", latents=Latents.VAE).directory)
    plan(policy, START_NS)
    assert planner_of(policy).foresee() is None


def test_a_vae_decodes_the_future_picture_if_the_bundle_has_its_decoder(tmp_path: Path) -> None:
    bundle = tiny(tmp_path / "bundle", latents=Latents.VAE)
    policy = load_policy(bundle.directory)
    planner = planner_of(policy)
    config = planner.model.config
    torch.manual_seed(0)
    state = autoencoder(config.vae).state_dict()
    decoder = {n: t for n, t in state.items() if n.startswith(("decoder.", "post_quant_conv."))}
    plan(policy, START_NS)
    seen = planner._seen
    assert seen is not None
    decode = imagination.video_decoder(decoder, config, device="cpu")
    foreseen = imagination.ExpectedVideo(
        planner._video,
        config,
        seen,
        layout=planner.vision.layout,
        decode=decode,
        period_ns=policy.contract.control_period_ns,
    )
    pixels = foreseen.features()[PIXELS]
    assert pixels.shape == planner.perceive(observe(policy.contract, START_NS))[PIXELS].shape
    assert np.isfinite(pixels).all()
    decoder.popitem()
    with pytest.raises(BundleError, match="decoder lacks"):
        imagination.video_decoder(decoder, config, device="cpu")


def test_a_replay_compares_futures_only_if_asked_and_executes_the_same(
    tmp_path: Path, bundle_dir: Path
) -> None:
    """AHA-WAM had no imagination, so the error of its world model was never measured."""
    bag = tmp_path / "bag"
    write_fake_bag(bag, robot=ROBOT, seconds=3.0)
    plain = ReplaySettings(100 * MS, 50 * MS)
    summaries = {}
    for asked in (False, True):
        settings = replace(plain, imagination=asked)
        options = ReplayOptions(bag=bag, policy_name="aha", settings=settings)
        out = tmp_path / f"{asked}"
        loaded = load_policy(bundle_dir)
        summaries[asked] = replay(options, robot=ROBOT, policy=loaded, report=out).summary["metrics"]
    assert summaries[False]["imagined_futures"] == 0
    assert summaries[True]["imagined_futures"] >= 3
    assert summaries[True]["imagination_mse"] > 0.0
    assert summaries[True]["imagination_still_mse"] > 0.0
    assert summaries[True]["action_mse"] == summaries[False]["action_mse"]
    errors = list(read_events(tmp_path / "True" / "events.jsonl", "imagination"))
    ahead = {error["target_stamp_ns"] - error["stamp_ns"] for error in errors}
    assert ahead == {32 * load_policy(bundle_dir).contract.control_period_ns}
    assert "imagined" in (tmp_path / "True" / "index.html").read_text()
