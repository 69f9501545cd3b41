# SPDX-License-Identifier: Apache-2.0
"""The suite from Python: survey, check and replay recordings, in scripts and notebooks. Thin over what `wam` runs.

    from wam import api

    report = api.replay("bag", robot="piper", policy="runs/pick", report="out")
    frames = report.frames()                    # numpy: what was recorded, executed and commanded
    frames.error["joint1"]                      # float64 [T] [rad]
    report.chunks().to_pandas()                 # pyarrow: every row of every chunk

Everything raises `wam.core.errors.WamError` for what a person can fix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wam.core.clock import seconds_to_ns
from wam.data.bag.binding import TopicNames
from wam.data.bag.reading import Recording
from wam.data.survey import BagSurvey, DatasetSurvey
from wam.data.survey import survey as survey_path
from wam.runtime.schedule import SCHEDULE

if TYPE_CHECKING:
    import pyarrow as pa

    from wam.evaluation.check import CheckReport

__all__ = ["Frames", "Report", "check", "open_recording", "open_report", "replay", "survey"]

Numbers = npt.NDArray[np.float64]


def survey(path: str | Path) -> BagSurvey | DatasetSurvey:
    """Return what a recording or a data set holds, quickly; see `wam.data.survey`.

    Raises:
        RecordingError: there is nothing, or nothing that can be read.
    """
    return survey_path(Path(path))


def check(path: str | Path, *, robot: str = "") -> CheckReport:
    """Return every problem of a recording or a data set; all of it is read.

    Args:
        path: bag or data set.
        robot: name in config/robots, or a YAML file; "" checks what needs no robot.

    Raises:
        RecordingError: there is nothing, or nothing that can be read.
        ConfigError: there is no such robot.
    """
    from wam.devices.loader import load_robot
    from wam.evaluation.check import check_recording

    return check_recording(Path(path), robot=load_robot(robot) if robot else None)


def open_recording(path: str | Path, *, lenient: bool = False) -> Recording:
    """Return an open recording: a context manager with `topics`, and `messages(names)` in order of time.

    Args:
        path: rosbag2 folder, .mcap, .db3 or ROS 1 .bag file.
        lenient: report missing or truncated files, and messages that cannot be decoded, as warnings.

    Raises:
        RecordingError: it cannot be read.
    """
    return Recording(Path(path), lenient=lenient)


def replay(
    bag: str | Path,
    *,
    robot: str,
    policy: str,
    report: str | Path,
    instruction: str = "",
    planner_latency: float = SCHEDULE.planner_latency,
    executor_latency: float = SCHEDULE.executor_latency,
    gate: str | Path | None = None,
    namespace: str = "",
    remap: Mapping[str, str] | None = None,
    action_topics: Mapping[str, tuple[str, ...]] | None = None,
    seed: int = 0,
    device: str = "cpu",
    lenient: bool = False,
    extra_filters: Sequence[str] = (),
) -> Report:
    """Replay a recording through planner and executor on its own clock, and return the report.

    Args:
        bag: recording.
        robot: name in config/robots, or a YAML file.
        policy: directory of a bundle, name of one that ships, or a built-in policy ("fake", "aha_wam/random").
        report: folder of the report: new, empty, or an earlier report.
        instruction: task text; "" takes the recording's, or else the policy's.
        planner_latency: of a plan, on the recording's clock [s].
        executor_latency: of a chunk, on the recording's clock [s].
        gate: YAML file with thresholds that replace the default gate; "none" judges nothing.
        namespace: of the robot in the recording.
        remap: topic of the robot file -> topic of the recording.
        action_topics: topics of the recorded action -> names of their joints, where the messages name none.
        seed: of the policy's noise.
        device: of the policy.
        lenient: report faults of the recording that leave usable data as warnings.
        extra_filters: safety filters of other packages, each as "module:factory".

    Raises:
        WamError: the recording, the policy or an option cannot be used; nothing is written.
    """
    from wam.devices.loader import load_robot
    from wam.evaluation.metrics.gate import gate_option
    from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
    from wam.evaluation.replay.session import replay as run
    from wam.policies.loading import load_policy
    from wam.runtime.policy import PolicyRequest

    options = ReplayOptions(
        bag=Path(bag),
        policy_name=policy,
        settings=ReplaySettings(
            seconds_to_ns(planner_latency),
            seconds_to_ns(executor_latency),
            extra_filters=tuple(extra_filters),
        ),
        names=TopicNames(namespace=namespace, renamed=dict(remap or {}), actions=dict(action_topics or {})),
        instruction=instruction,
        seed=seed,
        lenient=lenient,
        gate=gate_option(None if gate is None else str(gate)),
    )
    description = load_robot(robot, moves=False)
    request = PolicyRequest(policy, planner=True, executor=True, device=device, seed=seed)
    loaded = load_policy(request, robot=description)
    run(options, robot=description, policy=loaded, report=Path(report))
    return open_report(report)


def open_report(folder: str | Path) -> Report:
    """Return the report of an earlier replay.

    Raises:
        RecordingError: the folder holds none.
    """
    from wam.evaluation.replay.ci import read_summary

    return Report(Path(folder), read_summary(Path(folder)))


@dataclass(frozen=True, slots=True)
class Frames:
    """The motion of a replay at T control rows, of N joints, as arrays.

    Attributes:
        joints: names of the joints, in the order of the columns.
        units: their units: "rad", "m", or "1" for a fraction of the range.
        time_ns: int64 [T], on the recording's clock [ns].
        time_s: float64 [T], since the start of the recording, without its gaps [s].
        rung: names of the rungs of the degrade ladder, T.
        recorded: float64 [T, N], the reference; NaN where there is none.
        executed: float64 [T, N], a robot that follows the newest chunk at once; NaN where there is none.
        commanded: float64 [T, N], what the safety chain would have sent; NaN where there is none.
    """

    joints: tuple[str, ...]
    units: tuple[str, ...]
    time_ns: npt.NDArray[np.int64]
    time_s: Numbers
    rung: tuple[str, ...]
    recorded: Numbers
    executed: Numbers
    commanded: Numbers

    @property
    def error(self) -> dict[str, Numbers]:
        """Joint -> executed minus recorded, float64 [T], in the joint's unit."""
        difference = self.executed - self.recorded
        return {name: difference[:, i] for i, name in enumerate(self.joints)}


@dataclass(frozen=True)
class Report:
    """The report of a replay.

    Attributes:
        folder: where it is; index.html is its page.
        summary: content of summary.json (docs/reference/summary.md lists its keys).
    """

    folder: Path
    summary: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """The verdict in a word, e.g. "pass"."""
        return str(self.summary["verdict"])

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Name -> value of every metric; None where the recording does not give it."""
        metrics: Mapping[str, float | None] = self.summary["metrics"]
        return metrics

    def motion(self) -> pa.Table:
        """Return one row per time and joint; see `wam.evaluation.replay.export.motion_table`."""
        from wam.evaluation.replay.export import motion_table

        return motion_table(self.folder)

    def chunks(self) -> pa.Table:
        """Return one row per chunk and row of it; see `wam.evaluation.replay.export.chunk_table`."""
        from wam.evaluation.replay.export import chunk_table

        return chunk_table(self.folder)

    def frames(self) -> Frames:
        """Return the motion as arrays.

        Raises:
            RecordingError: the report has no timeline.
        """
        return self._frames

    @cached_property
    def _frames(self) -> Frames:
        from wam.evaluation.replay.timeline import read_timeline
        from wam.report.folder import TIMELINE

        table, units = read_timeline(self.folder / TIMELINE)

        def stack(kind: str) -> Numbers:
            columns = [table.column(f"{kind}.{name}").to_numpy() for name in units]
            return np.stack(columns, axis=1).astype(np.float64)

        return Frames(
            joints=tuple(units),
            units=tuple(units.values()),
            time_ns=table.column("time_ns").to_numpy(),
            time_s=table.column("time_s").to_numpy(),
            rung=tuple(table.column("rung").to_pylist()),
            recorded=stack("recorded"),
            executed=stack("executed"),
            commanded=stack("commanded"),
        )

    def markdown(self) -> str:
        """Return the Markdown summary for a pull request."""
        from wam.evaluation.replay.ci import replay_markdown

        return replay_markdown(self.summary)

    def write_junit(self, path: str | Path) -> None:
        """Write the JUnit XML file for CI.

        Raises:
            ConfigError: it cannot be written.
        """
        from wam.evaluation.replay.ci import write_ci_files

        write_ci_files(self.summary, junit=Path(path), markdown=None)
