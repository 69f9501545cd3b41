# SPDX-License-Identifier: Apache-2.0
"""Tables of a replay's report, for CSV, parquet and notebooks. All are made of the report's own files.

motion  one row per time and joint: recorded, executed, commanded, error, rung
chunks  one row per chunk and row of it: every joint in a column "NAME [unit]"
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from wam.core.errors import ConfigError
from wam.evaluation.replay.events import read_events
from wam.evaluation.replay.timeline import DIGITS, KINDS, read_timeline
from wam.report.folder import EVENTS, TIMELINE

SUFFIXES = (".csv", ".parquet")
CHUNKS = "chunks"
"""What the name of the second file ends with: out.csv and out.chunks.csv."""

_ABOUT = {
    "time_ns": "ns",
    "time_s": "s since the start of the recording, without its gaps",
    "recorded": "unit of the joint: the reference, see settings.reference in summary.json",
    "executed": "unit of the joint: a robot that follows the newest chunk at once",
    "commanded": "unit of the joint: what the safety chain would have sent",
    "error": "unit of the joint: executed - recorded",
}


def motion_table(report: Path) -> pa.Table:
    """Return the motion of a replay: one row per time and joint, times together.

    Columns: time_ns, time_s, joint, unit, recorded, executed, commanded, error (executed - recorded), rung. What is not
    known is null. The unit of each column is in the metadata of its field.

    Raises:
        RecordingError: the folder is no report of a replay.
    """
    wide, units = read_timeline(report / TIMELINE)
    rows = len(wide)
    parts = []
    for name, unit in units.items():
        values = {kind: wide.column(f"{kind}.{name}") for kind in KINDS}
        columns = {
            "time_ns": wide.column("time_ns"),
            "time_s": wide.column("time_s"),
            "joint": pa.array([name] * rows, pa.string()),
            "unit": pa.array([unit] * rows, pa.string()),
            **values,
            "error": pc.round(pc.subtract(values["executed"], values["recorded"]), DIGITS),
            "rung": wide.column("rung"),
        }
        parts.append(pa.table(columns))
    table = pa.concat_tables(parts)
    # Joints are apart in the parts; every part has its times in order.
    order = pa.array([joint * rows + row for row in range(rows) for joint in range(len(parts))], pa.int64())
    return _with_units(table.take(order).combine_chunks(), _ABOUT)


def chunk_table(report: Path) -> pa.Table:
    """Return the chunks of a replay: one row per chunk and row of it.

    Columns: generation, sequence, context_version, stamp_ns (of the image), start_ns and ready_ns (of the cycle), row,
    time_ns (when the row is due), and each joint as "NAME [unit]".

    Raises:
        RecordingError: the folder is no report of a replay.
    """
    _, units = read_timeline(report / TIMELINE)
    keys = ("generation", "sequence", "context_version", "stamp_ns", "start_ns", "ready_ns")
    columns: dict[str, list[int | float]] = {name: [] for name in (*keys, "row", "time_ns")}
    joints: list[list[float]] = [[] for _ in units]
    for chunk in read_events(report / EVENTS, "chunk"):
        period_ns = int(chunk["row_period_ns"])
        for row, values in enumerate(chunk["rows"]):
            for key in keys:
                columns[key].append(int(chunk[key]))
            columns["row"].append(row)
            columns["time_ns"].append(int(chunk["stamp_ns"]) + row * period_ns)
            for joint, value in zip(joints, values, strict=True):
                joint.append(value)
    named = {f"{name} [{unit}]": values for (name, unit), values in zip(units.items(), joints, strict=True)}
    arrays = {name: pa.array(values, pa.int64()) for name, values in columns.items()}
    arrays |= {name: pa.array(values, pa.float64()) for name, values in named.items()}
    about = {name: "ns" for name in columns if name.endswith("_ns")}
    about |= {f"{name} [{unit}]": unit for name, unit in units.items()}
    return _with_units(pa.table(arrays), about)


def export_report(report: Path, out: Path) -> tuple[Path, Path]:
    """Write both tables of a report.

    Args:
        report: folder of the report.
        out: .csv or .parquet file of the motion; the chunks go to a file beside it.

    Returns:
        The files of the motion and of the chunks.

    Raises:
        ConfigError: the suffix is another, or the files cannot be written.
        RecordingError: the folder is no report of a replay.
    """
    require_suffix(out)
    write: Callable[[pa.Table, str], None] = pa.csv.write_csv if out.suffix == ".csv" else _write_parquet
    beside = out.with_name(f"{out.stem}.{CHUNKS}{out.suffix}")
    for path, table in ((out, motion_table(report)), (beside, chunk_table(report))):
        try:
            write(table, str(path))
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written ({error.strerror or error})", where="the option"
            ) from error
    return out, beside


def require_suffix(out: Path) -> None:
    """Refuse a file that is neither CSV nor parquet.

    Raises:
        ConfigError: so it is.
    """
    if out.suffix not in SUFFIXES:
        raise ConfigError(
            f"export {out}", value=out.suffix or "no suffix", allowed=" or ".join(SUFFIXES), where="--export"
        )


def _write_parquet(table: pa.Table, path: str) -> None:
    pq.write_table(table, path, compression="zstd")


def _with_units(table: pa.Table, units: dict[str, str]) -> pa.Table:
    fields = [
        field.with_metadata({"unit": units[field.name]}) if field.name in units else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))
