# SPDX-License-Identifier: Apache-2.0
"""A replay for the rerun viewer (`--rerun`): joints recorded against predicted, ages, and the pictures of the report.

`rerun-sdk` is optional and imported here alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wam.core.errors import MissingDependency, RecordingError
from wam.evaluation.replay.data import ReplayData

APPLICATION = "wam replay"
TIMELINE = "recording"


def require_rerun() -> Any:
    """Return the module `rerun`.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "--rerun needs rerun-sdk, which is not installed: pip install rerun-sdk"
        ) from error
    return rerun


def write_rerun(path: Path, data: ReplayData) -> None:
    """Write an .rrd file.

    Args:
        path: the file; an older one is replaced.
        data: a finished replay.

    Raises:
        MissingDependency: rerun is not installed.
        RecordingError: the file cannot be written.
    """
    rerun = require_rerun()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch()
    except OSError as error:
        raise RecordingError(f"{path} cannot be written ({error.strerror})", where="--rerun") from error
    recording = rerun.RecordingStream(APPLICATION)
    recording.save(str(path))
    collector = data.collector
    times, targets, truth = collector.trajectory()
    sent_ns, sent, _ = collector.commanded()
    for column, name in enumerate(data.contract.action_joints):
        for kind, at, table in (
            ("recorded", times, truth),
            ("predicted", times, targets),
            ("commanded", sent_ns, sent),
        ):
            known = np.isfinite(table[:, column])
            values = np.asarray(table[known, column])
            _scalars(rerun, recording, f"joints/{name}/{kind}", at[known], values)
    ready = np.array(collector.ready_ns, dtype=np.int64)
    _scalars(rerun, recording, "context_age_s", ready, np.array(collector.context_age_ns) * 1e-9)
    _scalars(rerun, recording, "image_to_chunk_s", ready, np.array(collector.image_to_chunk_ns) * 1e-9)
    for picture in (*collector.pictures, *collector.worst()):
        recording.set_time(TIMELINE, timestamp=np.datetime64(picture.stamp_ns, "ns"))
        recording.log(f"cameras/{picture.camera}", rerun.Image(picture.rgb).compress(jpeg_quality=80))
    recording.log("instruction", rerun.TextDocument(data.instruction), static=True)
    recording.flush()
    recording.disconnect()


def _scalars(rerun: Any, recording: Any, entity: str, times_ns: Any, values: Any) -> None:
    if not len(values):
        return
    recording.send_columns(
        entity,
        indexes=[rerun.TimeColumn(TIMELINE, timestamp=np.asarray(times_ns).astype("datetime64[ns]"))],
        columns=rerun.Scalars.columns(scalars=values),
    )
