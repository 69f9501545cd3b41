# SPDX-License-Identifier: Apache-2.0
"""`timeline.parquet` of a replay report: at every control row, what was recorded, executed and commanded, and the rung.

The executed trajectory is that of a robot that follows the newest chunk at once; the commanded one has passed the
safety chain. The file is the same at every repetition; what is exported later is made of it and of events.jsonl.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from wam.core.errors import RecordingError
from wam.core.verdict import Ladder
from wam.evaluation.metrics.joints import joint_units
from wam.evaluation.metrics.time_gaps import seconds_recorded
from wam.evaluation.replay.data import ReplayData

TIMELINE_SCHEMA = "wam/replay-timeline/1"
KINDS = ("recorded", "executed", "commanded")

DIGITS = 6
"""Digits after the point: a micrometre, a microradian."""

NEAR_ROWS = 1.5
"""A command further than so many rows from a time is not taken for it."""

Stamps = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


def write_timeline(path: Path, data: ReplayData) -> None:
    """Write the timeline of a replay.

    Args:
        path: parquet file.
        data: the finished replay.
    """
    names, units = data.contract.action_joints, joint_units(data)
    times, executed, recorded = data.collector.trajectory()
    commanded = _at(times, *data.collector.commanded()[:2], period_ns=data.contract.control_period_ns)
    columns: dict[str, pa.Array] = {
        "time_ns": pa.array(times, pa.int64()),
        "time_s": pa.array(seconds_recorded(times, start_ns=data.first_ns, gaps=data.gaps), pa.float64()),
        "rung": pa.array(_rungs(times, data.collector.safety.moves), pa.string()),
    }
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    for i, name in enumerate(names):
        for kind, table in zip(KINDS, (recorded, executed, commanded), strict=True):
            key = f"{kind}.{name}"
            columns[key] = _numbers(table[:, i])
            fields.append(pa.field(key, pa.float64(), metadata={"unit": units[name]}))
    about = {"schema": TIMELINE_SCHEMA, "joints": json.dumps(list(names)), "units": json.dumps(dict(units))}
    schema = pa.schema(fields, metadata=about)
    pq.write_table(pa.table(list(columns.values()), schema=schema), path, compression="zstd")


def read_timeline(path: Path) -> tuple[pa.Table, dict[str, str]]:
    """Return the table of a timeline, and joint -> unit in the order of the policy.

    Raises:
        RecordingError: the file is missing or damaged.
    """
    try:
        table = pq.read_table(path, partitioning=None)
        about = table.schema.metadata or {}
        if about.get(b"schema", b"").decode() != TIMELINE_SCHEMA:
            raise RecordingError(f"{path} is no timeline of a replay", where="the report")
        joints, units = json.loads(about[b"joints"]), json.loads(about[b"units"])
    except FileNotFoundError as error:
        raise RecordingError(
            f"{path} is missing",
            allowed="the report of a replay",
            where="the report; replay again, if an earlier version has written it",
        ) from error
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise RecordingError(f"{path} cannot be read ({error})", where="the report") from error
    return table, {name: units[name] for name in joints}


def _numbers(values: Numbers) -> pa.Array:
    # What a tensor library rounds differently from run to run lies beyond these digits. Adding zero makes -0.0 plain.
    return pa.array(np.round(values, DIGITS) + 0.0, pa.float64(), from_pandas=True)


def _at(times: Stamps, sent_ns: Stamps, sent: Numbers, *, period_ns: int) -> Numbers:
    """Return the command nearest to each time, float64 [T, N]; NaN where none is near."""
    out = np.full((len(times), sent.shape[1]), np.nan)
    if not len(sent_ns):
        return out
    order = np.argsort(sent_ns, kind="stable")
    stamps = sent_ns[order]
    right = np.clip(np.searchsorted(stamps, times), 0, len(stamps) - 1)
    left = np.clip(right - 1, 0, None)
    nearest = np.where(np.abs(stamps[left] - times) <= np.abs(stamps[right] - times), left, right)
    near = np.abs(stamps[nearest] - times) <= NEAR_ROWS * period_ns
    out[near] = sent[order][nearest[near]]
    return out


def _rungs(times: Stamps, moves: list[tuple[int, Ladder]]) -> list[str]:
    """Return the rung at each time; every run begins in HOLD."""
    moved = sorted(moves, key=lambda move: move[0])
    rungs = [Ladder.HOLD.name, *(rung.name for _, rung in moved)]
    stamps = np.array([time_ns for time_ns, _ in moved], dtype=np.int64)
    return [rungs[i] for i in np.searchsorted(stamps, times, side="right").tolist()]
