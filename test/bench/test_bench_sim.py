# SPDX-License-Identifier: Apache-2.0
"""The simulation bench runs, in miniature, and says by name what it could not measure."""

from __future__ import annotations

import pytest

from wam.bench import sim
from wam.core.errors import MissingDependency

pytestmark = pytest.mark.sim


@pytest.fixture(autouse=True)
def only_the_piper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim, "ROBOTS", ("piper",))


@pytest.mark.camera
def test_it_measures_a_world_with_and_without_its_cameras() -> None:
    told: list[str] = []
    measured = sim.run(told.append, seconds=0.3)
    assert told == ["piper without cameras", "piper with 1 cameras"]
    assert set(measured.results) == {
        f"sim_piper_{name}" for name in ("steps_per_s", "realtime_factor", "render_p50_ms", "cameras")
    }
    assert all(value > 0.0 for value in measured.results.values())
    assert {(name, bar.limit, bar.kind) for name, bar in measured.bars.items()} == {
        (f"sim_{robot}_realtime_factor", 1.0, "min") for robot in ("franka", "ur5e_inspire", "piper")
    }


def test_without_egl_it_measures_the_steps_names_the_packages_and_misses_its_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_egl() -> None:
        raise MissingDependency("simulated cameras need EGL", where="the machine: apt install libegl1")

    monkeypatch.setattr(sim, "require_egl", no_egl)
    measured = sim.run(lambda _text: None, seconds=0.1)
    assert list(measured.results) == ["sim_piper_steps_per_s"]
    assert not measured.ok
    assert any("apt install libegl1" in note for note in measured.notes)
