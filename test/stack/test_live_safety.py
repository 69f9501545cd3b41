# SPDX-License-Identifier: Apache-2.0
"""What a running safety node publishes becomes the same kinds of events as those of the offline filters."""

from __future__ import annotations

import numpy as np
import pytest

from wam.core.ladder import finding
from wam.core.verdict import Event, Finding, Ladder, Verdict
from wam.devices.loader import load_robot
from wam.evaluation.replay.safety_events import CommandEvent, LadderEvent, SafetySource
from wam.evaluation.replay.safety_tally import SafetyTally
from wam.stack.live_safety import LiveSafety

PIPER = load_robot("piper")
JOINTS = len(PIPER.joint_names)
MS = 1_000_000
START_NS = 10**18


@pytest.fixture
def live() -> LiveSafety:
    return LiveSafety(PIPER)


def tally_of(live: LiveSafety, now_ns: int) -> SafetyTally:
    tally = SafetyTally(live.info, joints=JOINTS, row_period_ns=live.info.tick_ns)
    for event in live.take_events(now_ns):
        tally.take(event)
    return tally


def counts(**chunks: int) -> dict[str, str]:
    return {f"chunks_{verdict}": str(count) for verdict, count in chunks.items()}


def test_the_live_node_is_named_as_the_source(live: LiveSafety) -> None:
    assert live.info.source is SafetySource.LIVE_NODE
    assert tally_of(live, START_NS).source is SafetySource.LIVE_NODE


def test_verdicts_are_those_that_the_node_counted(live: LiveSafety) -> None:
    live.begin(START_NS)
    live.take_diagnostics(counts(ok=3, hold=1), now_ns=START_NS)
    live.take_diagnostics(counts(ok=7, hold=1, scaled=2), now_ns=START_NS + 500 * MS)
    verdicts = tally_of(live, START_NS + 600 * MS).verdicts
    assert verdicts == {Verdict.OK: 7, Verdict.HOLD: 1, Verdict.SCALED: 2}
    assert live.counted_ns == START_NS + 500 * MS


def test_a_chunk_that_the_node_refused_shows_with_its_reason(live: LiveSafety) -> None:
    refused = Finding(Verdict.HOLD, "stale", "the chunk is 2.0 s old")
    live.begin(START_NS)
    live.take_move(START_NS, Event(refused, Ladder.NOMINAL, Ladder.NOMINAL, 4))
    tally = tally_of(live, START_NS)
    assert tally.codes == {"stale": 1}
    assert tally.examples == {"stale": "the chunk is 2.0 s old"}
    assert not tally.causes


def test_time_on_each_rung_counts_from_the_first_chunk(live: LiveSafety) -> None:
    tick_ns = live.info.tick_ns
    live.take_move(START_NS - 50 * tick_ns, Event(finding("no_chunk_yet"), Ladder.HOLD, Ladder.HOLD))
    live.begin(START_NS)
    recovered = Finding(Verdict.OK, "recovered", "nominal again")
    live.take_move(START_NS + 10 * tick_ns, Event(recovered, Ladder.HOLD, Ladder.NOMINAL))
    live.take_move(START_NS + 40 * tick_ns, Event(finding("chunk_timeout"), Ladder.NOMINAL, Ladder.HOLD))
    tally = tally_of(live, START_NS + 60 * tick_ns)
    assert tally.rungs == {Ladder.HOLD: 30, Ladder.NOMINAL: 30}
    assert tally.causes == {(Ladder.HOLD, "chunk_timeout"): 1}
    assert [rung for _, rung in tally.moves] == [Ladder.NOMINAL, Ladder.HOLD]


def test_time_on_a_rung_adds_up_over_short_intervals(live: LiveSafety) -> None:
    """Intervals shorter than a tick must not round to nothing."""
    tick_ns = live.info.tick_ns
    live.begin(START_NS)
    tally = SafetyTally(live.info, joints=JOINTS, row_period_ns=tick_ns)
    for step in range(1, 101):
        for event in live.take_events(START_NS + step * tick_ns // 4):
            tally.take(event)
    assert tally.rungs == {Ladder.HOLD: 25}


def test_a_silence_in_the_commands_starts_a_new_stretch(live: LiveSafety) -> None:
    tick_ns = live.info.tick_ns
    live.take_command(START_NS - tick_ns, np.zeros(JOINTS))  # before the first chunk
    live.begin(START_NS)
    for tick in (0, 1, 2, 10, 11):
        live.take_command(START_NS + tick * tick_ns, np.full(JOINTS, float(tick)))
    (block,) = [one for one in live.take_events(START_NS + 12 * tick_ns) if isinstance(one, CommandEvent)]
    np.testing.assert_array_equal(block.positions[:, 0], [0.0, 1.0, 2.0, np.nan, 10.0, 11.0])
    assert np.all(np.diff(block.due_ns) > 0)


def test_events_before_the_first_chunk_are_kept_but_not_counted_as_causes(live: LiveSafety) -> None:
    live.take_move(START_NS, Event(finding("no_joint_state_yet"), Ladder.NOMINAL, Ladder.HOLD))
    events = live.take_events(START_NS + MS)
    assert [type(event) for event in events] == [LadderEvent]
    tally = SafetyTally(live.info, joints=JOINTS, row_period_ns=live.info.tick_ns)
    tally.take(events[0])
    assert not tally.causes
    assert len(tally.moves) == 1


def test_nothing_after_the_end_of_the_recording_counts(live: LiveSafety) -> None:
    """The joint states stop with the recording: the node then goes to HOLD, which says nothing about the policy."""
    tick_ns = live.info.tick_ns
    live.begin(START_NS)
    live.take_move(START_NS, Event(Finding(Verdict.OK, "recovered", ""), Ladder.HOLD, Ladder.NOMINAL))
    end_ns = START_NS + 10 * tick_ns
    live.end(end_ns)
    late = Event(finding("joint_state_timeout"), Ladder.NOMINAL, Ladder.HOLD)
    live.take_move(end_ns + tick_ns, late)
    live.take_command(end_ns + tick_ns, np.zeros(JOINTS))
    live.take_diagnostics(counts(ok=10), now_ns=end_ns + 20 * tick_ns)
    tally = tally_of(live, end_ns + 20 * tick_ns)
    assert tally.rungs == {Ladder.NOMINAL: 10}
    assert not tally.causes
    assert len(tally.take_commands().times_ns) == 0
    assert tally.verdicts == {Verdict.OK: 10}
