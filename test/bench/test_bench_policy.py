# SPDX-License-Identifier: Apache-2.0
"""The benchmark functions; no figure is asserted here."""

from __future__ import annotations

from pathlib import Path

import pytest

from wam.bench.policy import Timing, headline, measure
from wam.policies.bundles import load_policy, make_tiny_bundle


@pytest.mark.parametrize("kind", ["aha_wam", "state"])
def test_prefill_and_chunk_are_timed_as_often_as_asked(tmp_path: Path, kind: str) -> None:
    bundle = make_tiny_bundle(tmp_path / "b", kind)
    timings = measure(load_policy(bundle.directory), repeats=3, warm_up=1)
    assert {name: t.count for name, t in timings.items()} == {"prefill": 3, "chunk": 3}
    assert all(0 < t.min_ms <= t.p50_ms <= t.p95_ms for t in timings.values())
    with pytest.raises(ValueError, match="both halves"):
        measure(load_policy(bundle.directory, planner=False))


def test_the_tracked_figures_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert set(headline(repeats=1)) == {"prefill_tiny_eager_p50_ms", "chunk_tiny_eager_p50_ms"}


def test_a_summary_is_taken_over_milliseconds() -> None:
    timing = Timing.of([3_000_000, 1_000_000, 2_000_000])
    assert (timing.p50_ms, timing.min_ms, timing.count) == (2.0, 1.0, 3)
