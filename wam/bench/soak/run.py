# SPDX-License-Identifier: Apache-2.0
"""A soak: faults one after another on a running stack, sampled as it goes on, ended by time, Ctrl-C or SIGTERM.

Everything is written to the folder of the run at once, so that a run that goes on, or was killed, can be summarised:

    run.json        options, machine, start
    samples.jsonl   one sample per line
    faults.jsonl    one fault per line, with its recovery or why there was none
    end.json        how it ended
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from wam import __version__
from wam.bench.soak.bed import Bed
from wam.bench.soak.faults import ACTS
from wam.bench.soak.options import END, FAULTS, RUN, SAMPLES, SoakOptions
from wam.bench.soak.schedule import PlannedFault, schedule
from wam.core.errors import WamError, is_machine_fault
from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.report.machine import machine_info

MAX_FAILURES = 10
"""After so many faults without a recovery, each with a new stack, the run is given up."""


class _Over(Exception):
    """The time is over, or the run was asked to end."""


class SoakRun:
    """One soak.

    Args:
        options: of the run.
        stopping: what has asked it to end, e.g. "SIGTERM"; "" while nothing has.
        on_progress: called with a line about every sample and every failure.
    """

    def __init__(
        self, options: SoakOptions, *, stopping: Callable[[], str], on_progress: Callable[[str], None]
    ) -> None:
        self._options, self._stopping, self._say = options, stopping, on_progress
        self._robot = load_robot(options.robot)
        self._begun = time.monotonic()
        self._sampled = float("-inf")
        self._sim = 0.0
        self._faults = self._failures = 0
        self._judged: dict[str, Any] = {"commands": 0, "gaps": 0, "worst_share": 0.0, "peak_speed": 0.0}
        self._violations: dict[str, int] = {}
        self._described: list[str] = []
        self._bed: Bed | None = None

    def run(self) -> None:
        """Run until the time is over or `stopping` says so; everything has ended then.

        Raises:
            WamError: the stack could not be started, or has failed too often.
        """
        options = self._options
        options.folder.mkdir(parents=True, exist_ok=True)
        self._write(
            RUN,
            {
                "robot": options.robot,
                "title": self._robot.title,
                "hours": options.hours,
                "seed": options.seed,
                "period": options.period,
                "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "version": __version__,
                "machine": machine_info(),
            },
        )
        faults = schedule(options.seed)
        why = "the time was over"
        try:
            while True:
                self._stand(faults)
        except _Over:
            if self._stopping():
                why = f"it was asked to end ({self._stopping()})"
        except WamError as error:
            why = str(error)
            raise
        finally:
            self._write(END, {"why": why, "wall": self._wall(), "failures": self._failures})

    def _stand(self, faults: Any) -> None:
        """Build a stack and put it under faults until one has no recovery."""
        options = self._options
        bed = Bed(self._robot, options, on_tick=self._tick)
        try:
            bed.start_all()
            self._bed = bed
            while self._fault(bed, next(faults)):
                pass
        finally:
            self._bed = None
            self._keep(bed)
            bed.close()

    def _fault(self, bed: Bed, fault: PlannedFault) -> bool:
        """Inject one fault and wait for the recovery; return whether there was one."""
        record: dict[str, Any] = {"number": fault.number, "kind": fault.kind}
        try:
            bed.stack.run(fault.calm)
            record |= {"wall": self._wall(), "seconds": fault.seconds}
            bed.watch.highest = Ladder.NOMINAL
            ACTS[fault.kind](bed, fault)
            acted = time.monotonic()
            record["recovered"] = bed.recover()
            record |= {"recovered_wall": time.monotonic() - acted, "rung": bed.watch.highest.name}
        except WamError as error:
            if is_machine_fault(error):
                raise
            self._failures += 1
            record |= {"failure": str(error), "rung": bed.watch.highest.name, "logs": dict(bed.tails())}
            self._append(FAULTS, record)
            self._say(f"NO RECOVERY from fault {fault.number} ({fault.kind}): {error}")
            if self._failures >= MAX_FAILURES:
                raise
            return False
        self._faults += 1
        self._append(FAULTS, record)
        return True

    def _tick(self) -> None:
        wall = self._wall()
        if self._stopping() or wall > self._options.hours * 3600.0:
            raise _Over
        if self._bed is not None and wall - self._sampled >= self._options.period:
            self._sampled = wall
            self._sample(self._bed)

    def _sample(self, bed: Bed) -> None:
        commands = self._commands(bed)
        simulated = self._sim + bed.simulated
        found = {
            "wall": self._wall(),
            "simulated": simulated,
            "faults": self._faults,
            "failures": self._failures,
            **bed.sample(),
            **commands,
        }
        self._append(SAMPLES, found)
        processes: Any = found["processes"]
        memory = ", ".join(f"{name} {one['rss'] / 1e6:.1f}" for name, one in processes.items())
        self._say(
            f"{found['wall'] / 3600:.2f} h, {simulated:.0f} s simulated, {self._faults} faults, RSS [MB] {memory}; "
            f"{found['segments']} segments, {sum(commands['violations'].values())} violations"
        )

    def _commands(self, bed: Bed) -> dict[str, Any]:
        """Return what the judges have seen, earlier stacks included."""
        judges = list(bed.watch.judges.values())
        with bed.watch.listener.locked():
            violations = dict(self._violations)
            for judge in judges:
                for kind, count in judge.violations.items():
                    violations[kind] = violations.get(kind, 0) + count
            return {
                "commands": self._judged["commands"] + sum(one.commands for one in judges),
                "gaps": self._judged["gaps"] + sum(one.gaps for one in judges),
                "worst_share": max([self._judged["worst_share"], *(one.worst_share for one in judges)]),
                "peak_speed": max([self._judged["peak_speed"], *(one.peak_speed for one in judges)]),
                "violations": violations,
                "described": [*self._described, *(text for one in judges for text in one.described)],
            }

    def _keep(self, bed: Bed) -> None:
        """Remember what a stack has done that is about to end."""
        judged = self._commands(bed)
        self._violations, self._described = judged.pop("violations"), judged.pop("described")
        self._judged = judged
        self._sim += bed.simulated

    def _wall(self) -> float:
        return round(time.monotonic() - self._begun, 3)

    def _write(self, name: str, values: Any) -> None:
        (self._options.folder / name).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    def _append(self, name: str, values: Any) -> None:
        with (self._options.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
