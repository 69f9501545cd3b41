# SPDX-License-Identifier: Apache-2.0
"""The safety node's cycle on the clock of a recording: verdicts, rungs and commands are those of the cycle itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from keep_out import install_keep_out

from wam.core.chunk import ActionChunk
from wam.core.chunk.splice import Strategy
from wam.core.errors import ConfigError
from wam.core.observation import Observation, RobotState
from wam.core.verdict import Ladder, Verdict
from wam.data.fakes import fake_robot
from wam.devices.loader import load_robot
from wam.evaluation.replay.engine import ChunkEvent
from wam.evaluation.replay.safety import SafetyReplay
from wam.evaluation.replay.safety_events import CommandEvent, LadderEvent, SafetySource, VerdictEvent
from wam.evaluation.replay.safety_tally import SafetyTally
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.filters import build_chain

MS = 1_000_000
START_NS = 1_600_000_000 * 10**9
TICK_NS = 10 * MS
ROW_NS = 33 * MS
ROBOT = fake_robot()
GROUP = ROBOT.groups[0]


def state(time_ns: int, positions: np.ndarray[Any, Any]) -> Any:
    stamp = SimpleNamespace(sec=time_ns // 10**9, nanosec=time_ns % 10**9)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp), name=GROUP.driver_names, position=positions, velocity=[]
    )


def path(times_ns: Any) -> np.ndarray[Any, Any]:
    seconds = (np.asarray(times_ns, dtype=np.float64) - START_NS) * 1e-9
    return 0.3 * np.sin(np.atleast_1d(seconds))[:, None] * np.ones(3)


def chunk(stamp_ns: int, sequence: int, *, offset: float = 0.0, rows: int = 16) -> ChunkEvent:
    times = stamp_ns + np.arange(rows) * ROW_NS
    made = ActionChunk(
        stamp_ns=stamp_ns,
        generation=1,
        sequence=sequence,
        contract_hash="f" * 64,
        context_version=1,
        context_age_ns=0,
        phase_offset_rows=0,
        row_period_ns=ROW_NS,
        joint_names=ROBOT.joint_names,
        rows=path(times) + offset,
    )
    seen = Observation(stamp_ns, {}, RobotState(stamp_ns, ROBOT.joint_names, path(stamp_ns)[0], np.zeros(3)))
    return ChunkEvent(stamp_ns, stamp_ns + 40 * MS, made, seen, 0)


def script(seconds: float, **offsets: float) -> Iterator[tuple[int, str, Any]]:
    """Give joint states at 100 Hz and a chunk every 100 ms, in order of time.

    Args:
        seconds: length.
        offsets: "s" and the number of a chunk -> what is added to its rows; NaN leaves it out.
    """
    happened: list[tuple[int, int, str, Any]] = []
    for k in range(int(seconds * 100)):
        time_ns = START_NS + k * TICK_NS
        happened.append((time_ns, 0, "state", state(time_ns, path(time_ns)[0])))
    for k in range(1, int(seconds * 10)):
        offset = offsets.get(f"s{k}", 0.0)
        if not np.isnan(offset):
            event = chunk(START_NS + k * 100 * MS, k, offset=offset)
            happened.append((event.ready_ns, 1, "chunk", event))
    for time_ns, _, kind, what in sorted(happened, key=lambda one: one[:2]):
        yield time_ns, kind, what


class Judge(SafetyTally):
    """The safety cycle on a recording's clock, and the figures of what it says."""

    def __init__(self, **options: Any) -> None:
        self.cycle = SafetyReplay(ROBOT, **options)
        super().__init__(self.cycle.info, joints=len(ROBOT.joint_names), row_period_ns=ROW_NS)

    def state(self, message: Any, *, time_ns: int) -> list[Any]:
        self.cycle.offer_state(GROUP.name, message, time_ns=time_ns)
        events = self.cycle.take_events()
        for event in events:
            self.take(event)
        return events


def run(judge: Judge, *parts: Iterator[tuple[int, str, Any]]) -> list[Any]:
    events = []
    for part in parts:
        for time_ns, kind, what in part:
            if kind == "state":
                events += judge.state(what, time_ns=time_ns)
            else:
                judge.cycle.offer_chunk(what)
    return events


def make(**options: Any) -> Judge:
    return Judge(**options)


def test_commands_and_events_are_those_of_the_safety_nodes_cycle() -> None:
    wall = [0]
    settings = settings_for(ROBOT, tick_ns=TICK_NS, track=False)
    cycle = build_cycle(ROBOT, settings, build_chain(ROBOT, model=False), wall=lambda: wall[0])
    events: list[Any] = []
    next_ns = START_NS
    for time_ns, kind, what in script(2.0, s8=0.9):
        while next_ns < time_ns:
            wall[0] += TICK_NS
            events += cycle.step(next_ns).events
            next_ns += TICK_NS
        if kind == "state":
            cycle.offer_state(GROUP.name, stamp_ns=time_ns, positions=np.asarray(what.position))
        else:
            cycle.offer_chunk(what.chunk, arrival_ns=time_ns)
    replay = make()
    notes = run(replay, script(2.0, s8=0.9))
    assert [note.event for note in notes if isinstance(note, LadderEvent)] == events
    assert replay.verdicts[Verdict.HOLD] == cycle.refused == 1
    assert replay.verdicts[Verdict.OK] == cycle.accepted


def test_a_chunk_that_jumps_is_refused_and_the_next_good_one_leads_again() -> None:
    replay = make()
    verdicts = [note for note in run(replay, script(2.0, s8=0.9)) if isinstance(note, VerdictEvent)]
    assert [note.outcome.sequence for note in verdicts] == list(range(1, 20))
    assert [note.outcome.sequence for note in verdicts if note.verdict is Verdict.HOLD] == [8]
    finding = verdicts[7].finding
    assert finding is not None
    assert finding.code == "jump"
    assert replay.causes == {(Ladder.HOLD, "jump"): 1}
    assert [rung for _, rung in replay.moves][-2:] == [Ladder.HOLD, Ladder.NOMINAL]


def test_chunks_that_stay_away_bring_the_arm_to_hold() -> None:
    """The chain alone saw nothing of this: it judged each chunk by itself, and not what happens without one."""
    away = {f"s{k}": float("nan") for k in range(6, 20)}
    replay = make()
    run(replay, script(3.0, **away))
    assert replay.causes[Ladder.HOLD, "chunk_timeout"] == 1
    assert 0.3 < replay.share(Ladder.HOLD) < 0.6
    assert sum(replay.share(rung) for rung in Ladder) == pytest.approx(1.0)


def test_commands_follow_the_chunks_and_count_at_the_time_they_are_for() -> None:
    replay = make()
    run(replay, script(4.0))
    sent = replay.take_commands()
    settled = sent.times_ns > START_NS + 2 * 10**9
    error = np.abs(sent.positions[settled] - path(sent.times_ns[settled]))
    assert settled.sum() > 40
    assert error.max() < 0.002
    assert np.all(replay.jerk_rms() > 0.0)


def test_a_latched_stop_refuses_chunks_until_it_is_cleared_after_a_second() -> None:
    replay = make()
    verdicts = [note for note in run(replay, script(4.0, s8=10.0)) if isinstance(note, VerdictEvent)]
    stopped = [note.outcome.sequence for note in verdicts if note.verdict is Verdict.STOP]
    assert stopped == list(range(8, 19))  # the gross one, and those of the second until the stop is cleared
    assert replay.causes[Ladder.STOP, "position_limit"] == 1
    assert verdicts[-1].verdict is Verdict.OK
    assert replay.moves[-1][1] is Ladder.NOMINAL


def test_a_clock_that_goes_back_is_a_jump_to_the_cycle() -> None:
    replay = make()
    run(replay, script(1.0), script(1.0))
    assert replay.causes[Ladder.HOLD, "clock_jump"] == 1
    assert replay.moves[-1][1] is Ladder.NOMINAL


def test_a_gap_of_hours_is_not_stepped_through() -> None:
    replay = make()
    run(replay, script(1.0))
    before = sum(replay.rungs.values())
    hour_ns = START_NS + 3600 * 10**9
    replay.state(state(hour_ns, path(START_NS)[0]), time_ns=hour_ns)
    assert sum(replay.rungs.values()) - before < 10


def test_the_strategy_decides_how_chunks_take_over() -> None:
    commands = {}
    for strategy in (Strategy.BLEND, Strategy.SEQUENTIAL):
        replay = make(strategy=strategy)
        run(replay, script(2.0, s9=0.1))
        commands[strategy] = replay.take_commands().positions
    assert not np.allclose(commands[Strategy.BLEND], commands[Strategy.SEQUENTIAL], equal_nan=True)


def test_a_robot_with_a_model_is_checked_for_collisions_and_one_without_says_so() -> None:
    pytest.importorskip("pinocchio")
    assert SafetyReplay(load_robot("piper")).info.not_checked == ""
    assert make().unchecked == "fake has no model"


def test_a_filter_of_another_package_judges_the_chunks_of_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = install_keep_out(tmp_path, monkeypatch)
    replay = make(extra_filters=(f"{module}:make_keep_out",))
    run(replay, script(1.0))
    assert replay.codes["keep_out"]
    assert (Ladder.STOP, "keep_out") in replay.causes
    with pytest.raises(ConfigError, match="is missing"):
        make(extra_filters=(f"{module}:absent",))


def test_offline_figures_name_the_offline_filters_as_their_source() -> None:
    assert make().source is SafetySource.OFFLINE_FILTERS


def test_commands_of_blocks_of_any_length_are_thinned_out_alike() -> None:
    """A row lasts about three ticks: every third tick is kept, however the ticks are cut into blocks."""
    events = [event for event in run(make(), script(2.0)) if isinstance(event, CommandEvent)]
    whole, parts = make(), make()
    due_ns = np.concatenate([event.due_ns for event in events])
    positions = np.concatenate([event.positions for event in events])
    whole.take(CommandEvent(int(due_ns[-1]), due_ns, positions, {}))
    for event in events:
        parts.take(event)
    kept_ns = parts.take_commands().times_ns
    np.testing.assert_array_equal(kept_ns, whole.take_commands().times_ns)
    assert set(np.diff(kept_ns)) == {3 * TICK_NS}
