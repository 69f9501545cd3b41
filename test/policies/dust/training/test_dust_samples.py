# SPDX-License-Identifier: Apache-2.0
"""DUST samples of a data set: pairs of pictures, rows between them, padding, and the cache of features."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wam.core.errors import ConfigError
from wam.data.lerobot.reader import open_dataset
from wam.policies.dust.config import tiny
from wam.policies.dust.eagle import EagleBackbone
from wam.policies.dust.prompt import HashTokenizer, Prompter
from wam.policies.dust.training.data import units_of
from wam.policies.dust.training.features import DustCachedSamples, FeatureEncoder, fill_feature_cache
from wam.policies.dust.training.samples import DustPixelSamples, DustSampleTable, collate
from wam.training.episodes import Columns, EpisodeTable, VideoTable
from wam.training.sampler import SampleRef

CAMERA = "observation.images.head"


@pytest.fixture
def pixels(short_root: Path) -> DustPixelSamples:
    config = replace(tiny(), views=1)
    dataset = open_dataset(short_root)
    table = EpisodeTable(dataset, dataset.episodes, Columns((CAMERA,)))
    joints = ("joint0", "joint1", "joint2")
    units = units_of(table.statistics().stats, config, (joints, joints), (), relative=False)
    samples = DustSampleTable(table, config, units=units, count_past_end=False)
    prompter = Prompter(
        HashTokenizer(config.eagle),
        template="{task}",
        images=1,
        image_tokens=config.eagle.image_tokens,
        max_tokens=99,
    )
    return DustPixelSamples(samples, {t: prompter(text) for t, text in dataset.tasks.items()}, crop=0.95)


def grey(picture: torch.Tensor) -> float:
    return float((picture.mean() + 1) * 127.5)


def test_a_sample_pairs_a_picture_with_the_one_a_chunk_later_and_the_rows_between(
    pixels: DustPixelSamples,
) -> None:
    sample = pixels[SampleRef(5, 0)]
    assert grey(sample.pixels_BV3HW) == pytest.approx(25, abs=3)
    assert grey(sample.future_B3HW) == pytest.approx(41, abs=3)
    table = pixels.samples.table
    low, high = table.statistics().stats.action.values["min"], table.statistics().stats.action.values["max"]
    want = 2 * (table.actions[0][5:21] - low) / (high - low) - 1
    np.testing.assert_allclose(sample.action_BNA[0, :, :3].numpy(), want, atol=1e-5)
    assert not sample.action_BNA[0, :, 3:].any()
    assert sample.action_mask_BNA[0, 0].tolist() == [1.0] * 3 + [0.0] * 7
    assert sample.target_valid_B.tolist() == [True]


def test_past_the_end_of_an_episode_the_last_action_and_picture_stand(pixels: DustPixelSamples) -> None:
    sample = pixels[SampleRef(68, 0)]
    assert torch.equal(sample.action_BNA[0, 2], sample.action_BNA[0, 15])
    assert grey(sample.future_B3HW) == pytest.approx(20 + 69, abs=3)
    assert sample.target_valid_B.tolist() == [False]


def test_augmentation_moves_both_pictures_alike_and_colours_the_current_one_alone(
    pixels: DustPixelSamples,
) -> None:
    augmented = DustPixelSamples(pixels.samples, pixels._prompts, crop=0.95, jitter=3)
    plain, changed = pixels[SampleRef(5, 0)], augmented[SampleRef(5, 0)]
    assert torch.equal(changed.pixels_BV3HW, augmented[SampleRef(5, 0)].pixels_BV3HW)
    assert not torch.equal(changed.pixels_BV3HW, plain.pixels_BV3HW)
    # The data set's pictures have one colour, so another window of them is the same picture.
    torch.testing.assert_close(changed.future_B3HW, plain.future_B3HW, atol=0.05, rtol=0)
    assert changed.pixels_BV3HW.min() >= -1
    assert changed.pixels_BV3HW.max() <= 1


def test_cached_features_are_those_of_the_pictures(pixels: DustPixelSamples, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = FeatureEncoder(EagleBackbone(pixels.samples.config.eagle, feature_width=48))
    files = fill_feature_cache(tmp_path, pixels, encoder, crop=0.95)
    cached = DustCachedSamples(pixels, files)
    refs = [SampleRef(i, 0) for i in (0, 69, 75)]
    direct = encoder.batch(collate([pixels[r] for r in refs]))
    stored = collate([cached[r] for r in refs])
    for field in fields(direct):
        have, want = getattr(stored, field.name), getattr(direct, field.name)
        torch.testing.assert_close(have, want, atol=1e-5, rtol=0)
    before = {p: p.stat().st_mtime_ns for p in files.values()}
    assert fill_feature_cache(tmp_path, pixels, encoder, crop=0.95) == files
    assert {p: p.stat().st_mtime_ns for p in files.values()} == before


def test_a_cache_of_another_backbone_or_crop_is_never_read(pixels: DustPixelSamples, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = EagleBackbone(pixels.samples.config.eagle, feature_width=48)
    encoder = FeatureEncoder(backbone)
    files = fill_feature_cache(tmp_path, pixels, encoder, crop=0.95)
    assert set(fill_feature_cache(tmp_path, pixels, encoder, crop=0.9).values()).isdisjoint(files.values())
    backbone.linear.weight.data += 1
    assert FeatureEncoder(backbone).digest == encoder.digest, "the projection trains and is not in the cache"
    backbone.mlp1[1].weight.data += 1
    assert FeatureEncoder(backbone).digest != encoder.digest


def test_prompts_of_several_lengths_are_padded_on_the_left(pixels: DustPixelSamples) -> None:
    prompts = {t: torch.cat((ids, ids[:, -t - 1 :]), dim=1) for t, ids in pixels._prompts.items()}
    longer = DustPixelSamples(pixels.samples, prompts, crop=0.95)
    batch = collate([longer[SampleRef(0, 0)], longer[SampleRef(75, 0)]])
    assert batch.mask_BS.sum(1).tolist() == [batch.ids_BS.shape[1] - 1, batch.ids_BS.shape[1]]
    assert batch.mask_BS[:, 0].tolist() == [False, True]


def test_videos_without_a_robot_are_read_without_joint_columns(short_root: Path) -> None:
    dataset = open_dataset(short_root)
    table = VideoTable(dataset, dataset.episodes, Columns((CAMERA,)))
    assert len(table) == 82
    assert table.locate(75) == (1, 5)
    with pytest.raises(ConfigError, match=r"data\.cameras"):
        VideoTable(dataset, dataset.episodes, Columns(("action",)))
