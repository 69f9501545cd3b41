# SPDX-License-Identifier: Apache-2.0
"""Samples of a data set: rows, padding, normalisation, and the cache of latents."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from wam.core.errors import InputError, RecordingError
from wam.data.lerobot.reader import open_dataset
from wam.models.images import Composite, standard_layout
from wam.models.normalisation import Normaliser
from wam.models.text import HashTextEncoder
from wam.policies.aha_wam.initialise import random_vae
from wam.policies.aha_wam.training.batch import LatentBatch, collate
from wam.policies.aha_wam.training.latents import (
    LatentEncoder,
    LatentSamples,
    fill_latent_cache,
    fill_picture_cache,
    layout_key,
)
from wam.policies.aha_wam.training.layout import SampleLayout
from wam.policies.aha_wam.training.samples import (
    NodePictures,
    Pictures,
    PixelSamples,
    SampleNumbers,
    embed_tasks,
    history_lengths,
)
from wam.training.augmentation import AugmentSection
from wam.training.episodes import Columns, EpisodeTable
from wam.training.sampler import SampleRef

CAMERA = "observation.images.head"
LAYOUT = SampleLayout(max_offset=15, history_frames=3)


def level(episode: int, row: int) -> int:
    return 20 + (row + 37 * episode) % 200


@pytest.fixture(scope="module")
def table(dataset_root: Path) -> EpisodeTable:
    dataset = open_dataset(dataset_root)
    return EpisodeTable(dataset, dataset.episodes, Columns((CAMERA,)))


def text_of(table: EpisodeTable) -> dict[int, torch.Tensor]:
    return embed_tasks(table, HashTextEncoder(text_len=16, width=40), template="{task} now")


@pytest.fixture(scope="module")
def numbers(table: EpisodeTable) -> SampleNumbers:
    return SampleNumbers(table, LAYOUT, table.statistics().stats, text_of(table))


@pytest.fixture(scope="module")
def composite() -> Composite:
    return standard_layout([CAMERA], height=32, width=32)


def pixels_as_rows(pictures: torch.Tensor) -> list[float]:
    """Grey levels of pictures [3, N, H, W] in [-1, 1]."""
    return ((pictures.mean((0, 2, 3)) + 1) * 127.5).tolist()


def test_samples_are_numbered_through_all_episodes(table: EpisodeTable) -> None:
    assert len(table) == 230
    assert [table.locate(i) for i in (0, 149, 150, 229)] == [(0, 0), (0, 149), (1, 0), (1, 79)]
    assert history_lengths(table, SampleLayout())[:150:64] == [0, 1, 2]


def test_actions_are_the_normalised_rows_of_the_data_set(numbers: SampleNumbers) -> None:
    fields_ = numbers.fields(SampleRef(20, 5))
    raw = numbers.table.actions[0][25:89]
    expected = Normaliser(numbers.table.statistics().stats.action).to_model(raw)
    np.testing.assert_array_equal(fields_["actions_BHA"][0].numpy(), expected)
    states = Normaliser(numbers.table.statistics().stats.state).to_model(numbers.table.states[0])
    np.testing.assert_array_equal(fields_["states_BKJ"][0].numpy(), states[[25, 41, 57, 73]])
    assert not fields_["action_is_pad_BH"].any()


def test_relative_rows_lead_from_the_state_at_the_start_of_their_chunk_also_from_a_disturbed_one(
    table: EpisodeTable,
) -> None:
    columns = np.array([2, 0, 1])
    stats = table.relative_statistics(columns=columns, chunk_rows=16).stats
    for noise in (0.0, 0.2):
        relative = SampleNumbers(
            table, LAYOUT, stats, text_of(table), relative=columns, augment=AugmentSection(state_noise=noise)
        )
        fields_ = relative.fields(SampleRef(20, 5, draw=11))
        states = Normaliser(stats.state, clamp=None).to_si(fields_["states_BKJ"][0].numpy())
        rows = Normaliser(stats.action, clamp=None).to_si(fields_["actions_BHA"][0].numpy())
        back = rows.reshape(4, 16, 3) + states[:, None, columns]
        np.testing.assert_allclose(back.reshape(64, 3), table.actions[0][25:89], atol=1e-5)
        disturbed = np.abs(states - table.states[0][[25, 41, 57, 73]]).max()
        assert (disturbed > 0.01) == (noise > 0)


def test_statistics_of_relative_rows_count_each_row_of_each_chunk(table: EpisodeTable) -> None:
    columns = np.arange(3)
    found = table.relative_statistics(columns=columns, chunk_rows=4)
    means = []
    for states, actions in zip(table.states, table.actions, strict=True):
        rows = [
            actions[r + j] - states[r] for r in range(len(states)) for j in range(4) if r + j < len(actions)
        ]
        means.append(np.mean(rows, axis=0))
    np.testing.assert_allclose(found.stats.action.values["mean"], np.mean(means, axis=0), atol=1e-6)


def test_composed_pictures_are_read_from_their_cache_as_the_nodes_compose_them(
    short: SampleNumbers, composite: Composite, tmp_path: Path
) -> None:
    plain = NodePictures(short.table, composite)
    files = fill_picture_cache(tmp_path / "pictures", plain, table=short.table, composite=composite)
    cached = NodePictures(short.table, composite, files=files)
    rows = np.array([3, 3, 39, 0])
    assert torch.equal(cached.read(0, rows), plain.read(0, rows))
    refs = [SampleRef(36, 9, draw=5), SampleRef(33, 0, draw=6)]
    options = {"video_every": 4, "augment": AugmentSection(shift=2, colour=0.1)}
    direct = collate([PixelSamples(short, plain, **options)[r] for r in refs])
    again = collate([PixelSamples(short, cached, **options)[r] for r in refs])
    assert torch.equal(direct.video_B3PHW, again.video_B3PHW)
    assert direct.video_B3PHW.shape[2] == short.layout.latent_frames


def test_rows_past_the_end_of_an_episode_are_marked_and_repeat_its_last_row(numbers: SampleNumbers) -> None:
    fields_ = numbers.fields(SampleRef(150 + 60, 3))  # row 60 of 80
    is_pad = fields_["action_is_pad_BH"][0]
    assert is_pad.tolist() == [False] * 17 + [True] * 47
    actions = fields_["actions_BHA"][0]
    assert (actions[17:] == actions[16]).all()
    # Pictures lie at rows 60, 68, 76, 84, ...: latent frame 1 has pictures at 68 and 76, later ones none.
    assert fields_["latent_is_pad_BF"][0].tolist() == [False, False, True, True]


def test_every_picture_is_of_its_row(
    numbers: SampleNumbers, table: EpisodeTable, composite: Composite
) -> None:
    sample = PixelSamples(numbers, Pictures(table, composite))[SampleRef(130, 4)]
    rows = [min(130 + 8 * i, 149) for i in range(LAYOUT.pictures)]
    assert pixels_as_rows(sample.video_B3PHW[0]) == pytest.approx([level(0, r) for r in rows], abs=1.5)
    observed = pixels_as_rows(sample.observations_BK3HW[0].transpose(0, 1))
    assert observed == pytest.approx([level(0, min(r, 149)) for r in (134, 150, 166, 182)], abs=1.5)
    history = sample.history_BM3HW[0]
    assert sample.history_valid_B.tolist() == [1]
    assert (history[:2] == 0).all()
    assert pixels_as_rows(history[2:].transpose(0, 1)) == pytest.approx([level(0, 34)], abs=1.5)
    assert sample.history_positions_BM.tolist() == [[0, 0, 4]]
    assert sample.positions_BF.tolist() == [[16, 20, 24, 28]]


def test_a_batch_drops_history_that_no_sample_has(
    numbers: SampleNumbers, table: EpisodeTable, composite: Composite
) -> None:
    samples = PixelSamples(numbers, Pictures(table, composite))
    none = collate([samples[SampleRef(1, 0)], samples[SampleRef(2, 0)]])
    assert none.history_BM3HW.shape[1] == none.history_positions_BM.shape[1] == 0
    one = collate([samples[SampleRef(130, 0)], samples[SampleRef(2, 0)]])
    assert one.history_BM3HW.shape[:2] == (2, 1)
    assert (one.history_BM3HW[1] == 0).all()


def test_the_instruction_of_a_sample_is_that_of_its_row(numbers: SampleNumbers) -> None:
    encoder = HashTextEncoder(text_len=16, width=40)
    torch.testing.assert_close(
        numbers.fields(SampleRef(150, 0))["text_BTE"][0], encoder.embed("put it down now")
    )


def test_an_instruction_longer_than_the_text_context_is_refused_before_training(table: EpisodeTable) -> None:
    with pytest.raises(InputError, match="the instruction has 4 tokens"):
        embed_tasks(table, HashTextEncoder(text_len=3, width=40), template="{task} now")


@pytest.fixture
def short(make_dataset) -> SampleNumbers:
    """One episode of 40 rows in samples of one chunk, quick to encode."""
    dataset = open_dataset(make_dataset(lengths=(40,)))
    table = EpisodeTable(dataset, dataset.episodes, Columns((CAMERA,)))
    text = embed_tasks(table, HashTextEncoder(text_len=16, width=40), template="{task}")
    layout = SampleLayout(horizon_rows=16, max_offset=15, history_frames=3)
    return SampleNumbers(table, layout, table.statistics().stats, text)


def test_samples_outside_pauses_keep_their_rows_and_histories(make_dataset) -> None:
    dataset = open_dataset(make_dataset(lengths=(60, 40)))
    whole = EpisodeTable(dataset, dataset.episodes, Columns((CAMERA,)))
    table = EpisodeTable(dataset, dataset.episodes, Columns((CAMERA,)))
    table.states[0] = table.states[0].copy()
    table.states[0][20:40] = table.states[0][20]
    table.skip_pauses()
    kept = [table.locate(i) for i in range(len(table))]
    every = [whole.locate(i) for i in range(len(whole))]
    # Motion goes on at row 39; 0.2 s before it are 6 rows, this one among them.
    assert [place for place in every if place not in kept] == [(0, row) for row in range(20, 34)]
    lengths = history_lengths(table, LAYOUT)
    assert lengths == [LAYOUT.history_length(row) for _, row in kept]


def test_cached_latents_are_the_latents_of_the_pictures(
    short: SampleNumbers, composite: Composite, tmp_path: Path, make_model
) -> None:
    config = make_model(image_height=32, image_width=32).config
    encoder = LatentEncoder(random_vae(config.vae, seed=3), config)
    pictures = Pictures(short.table, composite)
    files = fill_latent_cache(tmp_path / "latents", short, pictures, encoder, composite=composite)
    refs = [SampleRef(36, 9), SampleRef(33, 0)]
    direct = encoder.batch(collate([PixelSamples(short, pictures)[r] for r in refs]))
    cached = collate([LatentSamples(short, files)[r] for r in refs])
    assert direct.history_BMCHW.shape[1] == 1
    for field in fields(LatentBatch):
        torch.testing.assert_close(
            getattr(cached, field.name), getattr(direct, field.name), atol=2e-6, rtol=1e-5
        )


def test_a_full_cache_is_not_computed_again_and_another_vae_has_its_own(
    short: SampleNumbers, composite: Composite, tmp_path: Path, make_model
) -> None:
    config = make_model(image_height=32, image_width=32).config
    pictures = Pictures(short.table, composite)
    first = LatentEncoder(random_vae(config.vae, seed=3), config)
    files = fill_latent_cache(tmp_path / "latents", short, pictures, first, composite=composite)
    stamps = {path: path.stat().st_mtime_ns for path in files.values()}
    assert fill_latent_cache(tmp_path / "latents", short, pictures, first, composite=composite) == files
    assert {path: path.stat().st_mtime_ns for path in files.values()} == stamps
    other = LatentEncoder(random_vae(config.vae, seed=4), config)
    # As the last of 1000 processes this one computes nothing; only the names are wanted.
    named = fill_latent_cache(
        tmp_path / "latents", short, pictures, other, composite=composite, rank=999, world=1000
    )
    assert not set(named.values()) & set(files.values())


def test_the_picture_layout_in_the_name_of_a_cache_file_is_written_out() -> None:
    """It was the `repr` of a class, so that renaming the class lost every cache."""
    assert layout_key(standard_layout(["a"], height=32, width=16)) == (
        "Composite(height=32, width=16, tiles=(Tile(camera='a', top=0, left=0, height=32, width=16),))"
    )
    assert layout_key(standard_layout(["a", "b"], height=32, width=32)).count("Tile(camera=") == 2


def test_a_picture_that_cannot_be_read_stops_the_sample_and_is_never_replaced(
    make_dataset, composite: Composite
) -> None:
    """The reference implementation prints a traceback and trains on a random other sample."""
    root = make_dataset(lengths=(80,))
    (root / "videos" / "chunk-000" / CAMERA / "episode_000000.mp4").write_bytes(b"broken")
    dataset = open_dataset(root)
    table = EpisodeTable(dataset, dataset.episodes, Columns((CAMERA,)))
    text = embed_tasks(table, HashTextEncoder(text_len=16, width=40), template="{task}")
    samples = PixelSamples(
        SampleNumbers(table, LAYOUT, table.statistics().stats, text), Pictures(table, composite)
    )
    with pytest.raises(RecordingError, match=r"episode_000000\.mp4"):
        samples[SampleRef(3, 0)]
