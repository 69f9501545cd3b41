# SPDX-License-Identifier: Apache-2.0
"""Order and grouping of samples."""

from __future__ import annotations

import pytest

from wam.training.sampler import HistoryBatchSampler

LENGTHS = [0] * 10 + [1] * 7 + [3] * 5


def test_every_sample_comes_once_per_epoch_and_no_batch_mixes_history_lengths() -> None:
    sampler = HistoryBatchSampler(LENGTHS, batch_size=4, seed=1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 3 + 2 + 2
    assert sorted(ref.index for batch in batches for ref in batch) == list(range(len(LENGTHS)))
    assert all(len({LENGTHS[ref.index] for ref in batch}) == 1 for batch in batches)


def test_epochs_differ_and_repeat_exactly() -> None:
    sampler = HistoryBatchSampler(LENGTHS, batch_size=4, max_offset=15, seed=1)
    first, second = sampler.batches(0), sampler.batches(1)
    assert first != second
    assert HistoryBatchSampler(LENGTHS, batch_size=4, max_offset=15, seed=1).batches(1) == second
    assert HistoryBatchSampler(LENGTHS, batch_size=4, max_offset=15, seed=2).batches(1) != second


def test_a_sampler_that_was_put_to_a_position_continues_there() -> None:
    sampler = HistoryBatchSampler(LENGTHS, batch_size=2, seed=3)
    whole = sampler.batches(4)
    sampler.seek(epoch=4, batch=5)
    assert list(sampler) == whole[5:]


def test_processes_share_an_epoch_without_overlap_and_make_equally_many_steps() -> None:
    parts = [HistoryBatchSampler(LENGTHS, batch_size=2, seed=3, rank=r, world=4) for r in range(4)]
    batches = [list(part) for part in parts]
    assert {len(b) for b in batches} == {len(parts[0])}
    seen = [ref.index for part in batches for batch in part for ref in batch]
    assert len(seen) == len(set(seen))
    alone = HistoryBatchSampler(LENGTHS, batch_size=2, seed=3).batches(0)
    assert [batches[i % 4][i // 4] for i in range(4 * len(parts[0]))] == alone[: 4 * len(parts[0])]


def test_offsets_cover_the_whole_range_and_nothing_else() -> None:
    sampler = HistoryBatchSampler([0] * 2000, batch_size=8, max_offset=15, seed=0)
    offsets = [ref.offset for batch in sampler for ref in batch]
    assert set(offsets) == set(range(16))
    without = HistoryBatchSampler([0] * 20, batch_size=8, seed=0)
    assert {ref.offset for batch in without for ref in batch} == {0}


def test_too_few_samples_for_all_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 samples in batches of 4 do not fill 2 processes"):
        HistoryBatchSampler([0, 0, 0], batch_size=4, world=2)
