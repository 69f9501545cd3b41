# SPDX-License-Identifier: Apache-2.0
"""Every named fault against the simulated Piper over real DDS: expected rung, time to it, and recovery.

One stack serves all faults; each is injected while the arms move in NOMINAL, and each must be recovered from. With
WAM_FAULT_TABLE=FILE the table of the run is written there as Markdown (`make faults` writes docs/reference/faults.md).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Duration, Time
from relay import Fault, Relay
from sensor_msgs.msg import JointState
from spoil import (
    crop,
    drop_all,
    drop_column,
    drop_every_other,
    drop_half,
    each,
    frozen,
    late_by,
    noise,
    put,
    rename,
    reorder,
    reverse_state,
    rows,
    shift,
    state_plus,
    swap_pairs,
    to_degrees,
    twice,
    with_field,
)
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.ros.qos import COMMAND, EVENT
from wam.stack.node_specs import executor, planner, safety, sim

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.slow]

NOMINAL, LATE, SLOW, HOLD, STOP = Ladder.NOMINAL, Ladder.LATE, Ladder.SLOW, Ladder.HOLD, Ladder.STOP
PIPER = load_robot("piper")
ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0
TRIES = 3
"""A fault may be tried again: a machine that stalls holds the arm as well, as it should, but it does not do so
every time."""

QUIET_S = 1.0
"""How long a fault that must change nothing is kept up."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A fault and what must come of it.

    Attributes:
        name: what goes wrong, for the table.
        expected: rung that must be reached; NOMINAL means that the arm must never be held or stopped.
        codes: events that may report it; empty for any.
        chunks: what happens to action chunks.
        states: what happens to joint states.
        images: what happens to pictures.
        act: anything else, called once; it returns what undoes it.
        before: what must stand before the fault; called before the clock of the table runs.
    """

    name: str
    expected: Ladder
    codes: tuple[str, ...] = ()
    chunks: Callable[[], Fault] | None = None
    states: Callable[[], Fault] | None = None
    images: Callable[[], Fault] | None = None
    act: Callable[[Any], Callable[[], None]] | None = None
    before: Callable[[Any], None] | None = None


def freeze(process: str, seconds: float) -> Callable[[Any], Callable[[], None]]:
    """Return an act that stops a process for a while, as a GIL that is held or a machine that swaps does."""

    def act(bed: Any) -> Callable[[], None]:
        target = bed.rig.group.processes[process]
        target.signal(signal.SIGSTOP)
        # The fault itself is a length of time.
        time.sleep(seconds)
        target.signal(signal.SIGCONT)
        return lambda: None

    return act


def kill(process: str, spec: Callable[[Any], Any]) -> Callable[[Any], Callable[[], None]]:
    """Return an act that kills a process with SIGKILL; undoing it starts it again."""

    def act(bed: Any) -> Callable[[], None]:
        bed.rig.group.processes[process].kill()
        return lambda: bed.start(spec(bed.rig.options))

    return act


def estop_topic(bed: Any) -> Callable[[], None]:
    bed.estop.publish(Bool(data=True))
    return lambda: bed.estop.publish(Bool(data=False))


def estop_service(bed: Any) -> Callable[[], None]:
    bed.call(Trigger, "wam_safety/estop")
    return lambda: None


def second_publisher(bed: Any) -> Callable[[], None]:
    other = bed.relay.node.create_publisher(JointState, PIPER.groups[0].command_topic, COMMAND)
    return lambda: bed.relay.node.destroy_publisher(other)


def freeze_executor(bed: Any) -> Callable[[], None]:
    bed.rig.group.processes["executor"].signal(signal.SIGSTOP)
    return lambda: bed.rig.group.processes["executor"].signal(signal.SIGCONT)


def start_recording(bed: Any) -> None:
    """Start `wam record` and wait until it writes."""
    folder = bed.folder / f"recording{next(bed.recordings)}"
    command = [sys.executable, "-m", "wam.cli.main", "record", str(folder), "--robot", "piper"]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    bed.recording = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    file = folder / f"{folder.name}.mcap"
    bed.rig.until("the recording", lambda _: file.exists() and file.stat().st_size > 100_000)


def full_disk(bed: Any) -> Callable[[], None]:
    """From now on the file of the recording may not grow."""
    resource.prlimit(bed.recording.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    _, told = bed.recording.communicate(timeout=TIMEOUT_S)
    assert bed.recording.returncode == 1, told
    assert "the disk does not take more" in told.splitlines()[-1]
    return lambda: None


REFUSED = ("chunk_timeout", "rows_exhausted")
"""A chunk that is not let in leaves the rows at hand; HOLD comes when they run out."""
BLIND = (*REFUSED, "executor_lost")
"""Without a picture no chunk is made."""
LOST = ("joint_state_timeout", "malformed_joint_state", "driver_lost")

CASES = (
    # Chunks late, lost, or in disorder.
    Case("every chunk is lost", HOLD, (*REFUSED, "executor_lost"), chunks=drop_all),
    Case("every other chunk is lost", NOMINAL, chunks=drop_every_other),
    Case("chunks arrive twice", NOMINAL, chunks=twice),
    Case("chunks arrive in swapped pairs", NOMINAL, chunks=swap_pairs),
    Case("chunks arrive one late (100 ms)", NOMINAL, chunks=late_by(1)),
    Case("chunks arrive ten late (1 s)", HOLD, (*REFUSED, "stale_chunk"), chunks=late_by(10)),
    Case("the same chunk arrives for ever", HOLD, (*REFUSED, "duplicate_chunk"), chunks=frozen),
    Case("chunks are stamped 10 s in the past", HOLD, REFUSED, chunks=each(shift(-10))),
    Case("chunks are stamped 10 s in the future", HOLD, REFUSED, chunks=each(shift(10))),
    Case("chunks are stamped zero", HOLD, REFUSED, chunks=each(lambda m: setattr(m.header, "stamp", Time()))),
    # Chunks that are not what they should be.
    Case("a target is NaN", STOP, ("non_finite",), chunks=rows(put(15, 3, math.nan))),
    Case("a target is infinite", STOP, ("non_finite",), chunks=rows(put(15, 3, math.inf))),
    Case(
        "the contract is another policy's", HOLD, REFUSED, chunks=each(with_field("contract_hash", "b" * 64))
    ),
    Case(
        "a joint is unknown",
        HOLD,
        REFUSED,
        chunks=each(lambda m: setattr(m, "joint_names", ["elbow", *m.joint_names[1:]])),
    ),
    Case(
        "a joint comes twice",
        HOLD,
        REFUSED,
        chunks=each(lambda m: setattr(m, "joint_names", [m.joint_names[1], *m.joint_names[1:]])),
    ),
    Case("names are shifted by one", HOLD, ("jump", *REFUSED, "velocity_limit"), chunks=each(rename)),
    Case("names and columns are both reversed", NOMINAL, chunks=each(reorder)),
    Case("rows are missing", HOLD, REFUSED, chunks=each(with_field("num_rows", 17))),
    Case(
        "there are no rows",
        HOLD,
        REFUSED,
        chunks=each(lambda m: (setattr(m, "num_rows", 0), setattr(m, "positions", []))),
    ),
    Case("the row period is zero", HOLD, REFUSED, chunks=each(with_field("row_period", Duration()))),
    Case(
        "the row period is negative", HOLD, REFUSED, chunks=each(with_field("row_period", Duration(sec=-1)))
    ),
    Case("the whole chunk jumps by 1 rad", HOLD, ("jump", *REFUSED), chunks=rows(lambda t: t + 1.0)),
    Case(
        "rows are zeros (padding that denormalises to the zero pose)",
        HOLD,
        ("jump", "velocity_limit", "acceleration_limit", "jerk_limit", *REFUSED),
        chunks=rows(np.zeros_like),
    ),
    Case("targets are 1e6", HOLD, chunks=rows(lambda t: np.full_like(t, 1e6))),
    Case("targets are denormal numbers off", NOMINAL, chunks=rows(lambda t: t + 5e-324)),
    Case("targets jitter by 0.2 mrad", NOMINAL, chunks=rows(noise(2e-4))),
    Case(
        "the policy is reset at every chunk",
        NOMINAL,
        ("generation_reset",),
        chunks=lambda: _count_generations(),
    ),
    # Joint states late, lost, or wrong.
    Case("joint states are lost", HOLD, LOST, states=drop_all),
    Case("half of the joint states are lost", NOMINAL, states=drop_half),
    Case("joint states are 5 s old", HOLD, LOST, states=each(shift(-5))),
    Case(
        "a measured position is NaN",
        HOLD,
        LOST,
        states=each(lambda m: setattr(m, "position", [math.nan, *m.position[1:]])),
    ),
    Case("a joint is missing in the joint states", HOLD, LOST, states=each(drop_column)),
    Case("joint states come in another order and without velocity", NOMINAL, states=each(reverse_state)),
    Case("joint states are in degrees", HOLD, (*LOST, "tracking_error", "jump"), states=each(to_degrees)),
    Case("a joint is measured 0.6 rad away", STOP, ("tracking_error",), states=each(state_plus(0.6))),
    # Cameras.
    Case("the camera is off", HOLD, BLIND, images=drop_all),
    Case("every other picture is lost", NOMINAL, images=drop_every_other),
    Case("the same picture comes for ever", HOLD, BLIND, images=frozen),
    Case("pictures are 5 s old", HOLD, BLIND, images=each(shift(-5))),
    Case("pictures have another size", HOLD, BLIND, images=each(crop)),
    Case("pictures have another encoding", HOLD, BLIND, images=each(with_field("encoding", "16UC1"))),
    # Processes.
    Case("the executor is killed", HOLD, (*REFUSED, "executor_lost"), act=kill("executor", executor)),
    Case("the planner is killed", HOLD, (*REFUSED, "executor_lost"), act=kill("planner", planner)),
    Case("the robot's driver is killed", HOLD, (*LOST, "no_listener"), act=kill("sim", sim)),
    Case("the safety node is killed", HOLD, act=lambda bed: bed.kill_safety()),
    Case("the executor freezes for 0.1 s", NOMINAL, act=freeze("executor", 0.1)),
    Case("the executor freezes for good", HOLD, (*REFUSED, "executor_lost"), act=freeze_executor),
    Case(
        "the safety node freezes for 0.5 s", HOLD, ("command_gap", *REFUSED, *LOST), act=freeze("safety", 0.5)
    ),
    # A frozen subscriber can hold up its publisher: the stream then reports its own gap.
    Case(
        "the driver freezes for 0.5 s",
        HOLD,
        (*LOST, *REFUSED, "tracking_error", "command_gap"),
        act=freeze("sim", 0.5),
    ),
    # People and other nodes.
    Case("the e-stop topic says true", STOP, ("estop",), act=estop_topic),
    Case("the e-stop service is called", STOP, ("estop",), act=estop_service),
    Case("a second node publishes commands", STOP, ("second_publisher",), act=second_publisher),
    # What must not matter.
    Case("the disk of a recording is full", NOMINAL, act=full_disk, before=start_recording),
)


def _count_generations() -> Fault:
    count = iter(range(10**6, 10**9))

    def fault(message: Any) -> Iterable[Any]:
        message.generation = next(count)
        return (message,)

    return fault


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a fault.

    Attributes:
        rung: highest rung reached, or the first one that was expected.
        after: time from the fault to that rung, for the table.
        back: time from the end of the fault to moving again, for the table.
        codes: of all events meanwhile.
    """

    rung: Ladder
    after: str
    back: str
    codes: set[str]


class Bed:
    """A running stack whose safety node listens to a relay."""

    def __init__(self, rig: Any, folder: Path) -> None:
        self.rig, self.folder = rig, folder
        self.recordings = itertools.count()
        self.recording: subprocess.Popen[str] | None = None
        self.relay = Relay(PIPER)
        self.estop = self.relay.node.create_publisher(Bool, "estop", EVENT)
        self.rows: list[tuple[str, str, str, str, str]] = []
        rig.start(sim(rig.options))
        self.start(safety(rig.options))
        rig.hear_safety()
        self.start(planner(rig.options))
        self.start(executor(rig.options))
        rig.until_moving()

    def start(self, spec: Any) -> None:
        """Start a process; the nodes of the suite are pointed at the relay."""
        remaps = {
            "safety": Relay.remaps(PIPER),
            "planner": Relay.image_remaps(PIPER),
            "executor": Relay.image_remaps(PIPER),
        }
        spec = dataclasses.replace(spec, remaps=remaps.get(spec.name, {}))
        self.rig.start(spec)

    def kill_safety(self) -> Callable[[], None]:
        self.rig.group.processes["safety"].kill()
        self.start(safety(self.rig.options))
        return lambda: None

    def call(self, kind: type[Any], name: str) -> None:
        """Call a service of the safety node and wait for its answer."""
        client = self.relay.node.create_client(kind, name)
        assert client.wait_for_service(timeout_sec=20.0), f"{name} is not there"
        answer = client.call_async(kind.Request())
        self.rig.until(f"the answer of {name}", lambda _: answer.done())
        self.relay.node.destroy_client(client)

    def now_ns(self) -> int:
        return int(self.relay.node.get_clock().now().nanoseconds)

    def inject(self, case: Case) -> Outcome:
        """Put a fault in force, watch what comes of it, take it out, and wait for the recovery."""
        # What an earlier case that failed has left behind is not this one's.
        self.recover()
        if case.before is not None:
            case.before(self)
            self.rig.until_moving()
        events = self.rig.recorder.safety
        first, begun = len(events), self.now_ns()
        makers = (("chunks", case.chunks), ("states", case.states), ("images", case.images))
        self.relay.spoil(**{name: make() for name, make in makers if make is not None})
        undo = case.act(self) if case.act is not None else None
        if case.expected is NOMINAL:
            self.rig.recorder.wait_for(lambda _: False, timeout=QUIET_S)
            rung = max((event.ladder_to for event in events[first:]), default=NOMINAL)
            after = "-" if rung >= HOLD else "never held"
        else:
            self.rig.until(
                f"rung {case.expected.name}",
                lambda r: any(event.ladder_to >= case.expected for event in r.safety[first:]),
            )
            seen = next(event for event in events[first:] if event.ladder_to >= case.expected)
            rung, after = seen.ladder_to, f"{(seen.stamp_ns - begun) / 1e6:.0f} ms"
        codes = {event.code for event in events[first:]}
        self.relay.spoil()
        if undo is not None:
            undo()
        undone = self.now_ns()
        self.recover()
        return Outcome(rung, after, f"{(self.now_ns() - undone) / 1e9:.1f} s", codes)

    def recover(self) -> None:
        """Take every fault out, clear a latched STOP, and wait until the arms move again."""
        events = self.rig.recorder.safety
        if events and events[-1].ladder_to is STOP:
            # A cause may still be present for a moment after the fault is out: ask until it lets go.
            for _ in range(20):
                self.call(Trigger, "wam_safety/clear_fault")
                if self.rig.recorder.wait_for(lambda r: r.safety[-1].ladder_to is not STOP, timeout=0.5):
                    break
            assert events[-1].ladder_to is not STOP, f"STOP is still latched: {events[-1].text}"
        self.rig.until_moving()


@pytest.fixture(scope="module")
def bed(module_rig: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    bed = Bed(module_rig, tmp_path_factory.mktemp("recordings"))
    yield bed
    if bed.recording is not None:
        bed.recording.kill()
        bed.recording.wait()
    bed.relay.close()
    table = os.environ.get("WAM_FAULT_TABLE")
    if table:
        write_table(Path(table), bed.rows)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_ends_on_its_rung_and_is_recovered_from(bed: Bed, case: Case) -> None:
    for _ in range(TRIES):
        outcome = bed.inject(case)
        if as_expected(case, outcome):
            break
    bed.rows.append((case.name, case.expected.name, outcome.rung.name, outcome.after, outcome.back))
    assert as_expected(case, outcome), f"{outcome.rung.name} each time, reported as {outcome.codes}"


def as_expected(case: Case, outcome: Outcome) -> bool:
    """Return whether a fault ended where it must, reported as it must be."""
    if case.expected is NOMINAL:
        return outcome.rung < HOLD or outcome.codes & set(case.codes) != set()
    return not case.codes or outcome.codes & set(case.codes) != set()


def write_table(path: Path, rows_: list[tuple[str, str, str, str, str]]) -> None:
    """Write the table of the run as Markdown."""
    lines = [
        "# Faults",
        "",
        "What each fault does to the simulated Piper arms, from the last run of `make faults` (real nodes, real DDS).",
        "NOMINAL as expectation means that the arm must never be held. Times are from the injection to the rung, and",
        "from the end of the fault to a new chunk in NOMINAL; a latched STOP was cleared by `~/clear_fault`.",
        "",
        "| # | fault | expected | reached | after | recovered after |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| {i} | {' | '.join(row)} |" for i, row in enumerate(rows_, 1)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_there_are_forty_named_faults_or_more() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40
