# SPDX-License-Identifier: Apache-2.0
"""The figures of the loop bench, from recorded numbers; no node runs and no time is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wam.bench.loop_numbers import (
    Published,
    Received,
    Stretch,
    command_jitter_ms,
    image_to_chunk_ms,
    loop_figures,
    state_to_command_ms,
)
from wam.core.clock import NS_PER_MS, NS_PER_S

EPOCH_NS = 1_700_000_000 * NS_PER_S
"""When the simulated clock showed 0, on the system clock [ns]."""


def published(stamps_ms: list[float], sent_ms: list[float], rate: float = 0.0) -> Published:
    """Return messages stamped and sent at these simulated times [ms]."""
    return Published(
        (np.array(stamps_ms) * NS_PER_MS).astype(np.int64),
        (np.array(sent_ms) * NS_PER_MS).astype(np.int64) + EPOCH_NS,
        rate,
    )


@pytest.fixture
def stretch() -> Stretch:
    """Two seconds: states at 200 Hz, commands at 100 Hz, three chunks."""
    states = [5.0 * i for i in range(401)]
    commands = [1.0 + 10.0 * i for i in range(200)]
    return Stretch(
        time=2.0,
        wall=2.5,
        states=[published(states, states, 200.0)],
        commands=[published(commands, commands, 100.0)],
        chunks=published([100.0, 200.0, 302.5], [150.0, 260.0, 402.5]),
        chunk_ns=np.array([10, 20, 30]) * NS_PER_MS,
        received=[Received(380, 1.9, 200.0)],
        held={"no_chunk_yet": 0.4, "chunk_timeout": 0.1},
        ticks=200,
        missed=3,
        wake_up_p99=0.0005,
        images=30,
        contexts=8,
    )


def test_the_time_from_image_to_chunk_is_that_on_the_system_clock(stretch: Stretch) -> None:
    assert image_to_chunk_ms(stretch) == pytest.approx([50.0, 60.0, 100.0], abs=1e-3)


def test_a_simulation_that_falls_behind_does_not_count_as_latency(stretch: Stretch) -> None:
    """From 250 ms on the simulated clock is 1 s behind: stamps are reached later by as much."""
    (states,) = stretch.states
    late = np.where(states.stamps_ns > 250 * NS_PER_MS, NS_PER_S, 0)
    behind = replace(states, sent_ns=states.sent_ns + late)
    chunks = published([100.0, 302.5], [150.0, 1402.5])
    assert image_to_chunk_ms(replace(stretch, states=[behind], chunks=chunks)) == pytest.approx(
        [50.0, 100.0], abs=1e-3
    )


def test_a_command_is_measured_from_the_newest_states_before_it(stretch: Stretch) -> None:
    (taken,) = state_to_command_ms(stretch)
    assert taken == pytest.approx(1.0)


def test_jitter_is_the_distance_of_an_interval_from_the_period(stretch: Stretch) -> None:
    (commands,) = stretch.commands
    sent_ns = commands.sent_ns.copy()
    sent_ns[100] += 3 * NS_PER_MS
    (jitter,) = command_jitter_ms(replace(stretch, commands=[replace(commands, sent_ns=sent_ns)]))
    assert sorted(jitter)[-2:] == pytest.approx([3.0, 3.0])
    assert np.sum(jitter > 1e-6) == 2


def test_held_before_the_first_chunk_is_told_apart(stretch: Stretch) -> None:
    figures = loop_figures([stretch, stretch], {})
    assert figures["loop_held_share"] == 0.05
    assert figures["loop_held_chunk_timeout_share"] == 0.05
    assert figures["loop_held_at_start_s"] == 0.4


def test_the_share_of_joint_states_is_of_their_nominal_rate(stretch: Stretch) -> None:
    half = replace(stretch, received=[Received(190, 1.9, 200.0)])
    assert loop_figures([stretch], {})["loop_joint_state_share"] == 1.0
    assert loop_figures([stretch, half], {})["loop_joint_state_share"] == 0.75


def test_stretches_are_added_up_and_nothing_is_measured_between_them(stretch: Stretch) -> None:
    """The interval from the last command of an episode to the first of the next is no jitter."""
    (commands,) = stretch.commands
    later = replace(stretch, commands=[replace(commands, sent_ns=commands.sent_ns + 10 * NS_PER_S)])
    figures = loop_figures([stretch, later], {})
    assert figures["loop_command_jitter_p999_ms"] == pytest.approx(0.0, abs=1e-3)
    assert figures["loop_commands_hz"] == 100.0
    assert figures["loop_missed_deadlines"] == 6.0
    assert figures["loop_realtime_factor"] == 0.8


def test_a_run_that_has_seen_nothing_has_no_figures_that_could_keep_a_bar() -> None:
    assert loop_figures([], {}) == {}


def test_cores_are_those_of_all_processes_and_their_parts(stretch: Stretch) -> None:
    figures = loop_figures([stretch], {"sim": {"physics": 0.25, "dds": 0.05}, "policy": {"executor": 0.5}})
    assert figures["loop_cores"] == 0.8
    assert figures["loop_cores_sim"] == 0.3
    assert figures["loop_cores_sim_physics"] == 0.25
