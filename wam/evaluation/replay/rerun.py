# SPDX-License-Identifier: Apache-2.0
"""A replay as a file of the rerun viewer (`--rerun`). `rerun-sdk` is optional and imported here alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wam.core.errors import ConfigError, MissingDependency, RecordingError
from wam.core.extras import command_for, missing
from wam.evaluation.replay.data import ReplayData
from wam.evaluation.replay.viewer import fill
from wam.evaluation.replay.viewer_sink import (
    Colour,
    Entity,
    Layout,
    LogLevel,
    RobotPose,
    Strips,
    Times,
    Values,
)

APPLICATION = "wam replay"
TIMELINE = "recording"
LIVE = "live"
"""Target that opens a viewer on this machine."""

SUFFIX = ".rrd"
SCHEMES = ("rerun://", "rerun+http://", "rerun+https://")
"""How the address of an open viewer begins."""

STRIP_RADIUS = -1.5
"""Of lines in 3D; negative: in pixels, whatever the distance."""

PLOTS_IN_A_ROW = 5
OLDEST = (0, 41)
"""Oldest rerun-sdk that has all that is used here: robots from a URDF, moved joint by joint."""


def require_rerun() -> Any:
    """Return the module `rerun`.

    Raises:
        MissingDependency: it is not installed, or too old.
    """
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise missing("--rerun needs rerun-sdk", "rerun") from error
    version = tuple(int(part) for part in rerun.__version__.split(".")[:2])
    if version < OLDEST:
        raise MissingDependency(
            f"--rerun needs rerun-sdk {OLDEST[0]}.{OLDEST[1]} or newer, and {rerun.__version__} is installed: "
            f"{command_for('rerun')}"
        )
    return rerun


def parse_target(text: str) -> Path | str:
    """Return what `--rerun` names: a file as a path, `LIVE` or the address of an open viewer as they are.

    Raises:
        ConfigError: it is none of them.
    """
    if text == LIVE or text.startswith(SCHEMES):
        return text
    path = Path(text)
    if path.suffix != SUFFIX:
        raise ConfigError(
            "what --rerun names",
            value=text,
            known=(LIVE,),
            allowed=f"a file that ends in {SUFFIX}, {LIVE}, or the address of an open viewer, as "
            "rerun+http://HOST:9876/proxy",
            where="--rerun",
        )
    return path


def require_rrd(path: Path) -> None:
    """Check the name of a file that would be replaced.

    Raises:
        ConfigError: it does not end in .rrd.
    """
    if path.suffix != SUFFIX:
        raise ConfigError(
            "the file of --rerun", value=str(path), allowed=f"a file that ends in {SUFFIX}", where="--rerun"
        )


def prepare_rrd(path: Path) -> None:
    """Make the folder of an .rrd file that is to be written, and remove an older one.

    Raises:
        ConfigError: its name does not end in .rrd; nothing is removed.
        RecordingError: it cannot be written.
    """
    require_rrd(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch()
        path.unlink()  # whoever fails to write it leaves no empty file
    except OSError as error:
        raise RecordingError(f"{path} cannot be written ({error.strerror})", where="--rerun") from error


def write_rerun(path: Path, data: ReplayData, events: Path) -> None:
    """Write an .rrd file.

    Args:
        path: the file; an older one is replaced.
        data: a finished replay, its recording still open.
        events: events.jsonl of the replay.

    Raises:
        MissingDependency: rerun is not installed.
        ConfigError: the file does not end in .rrd.
        RecordingError: the file cannot be written, or the recording cannot be read again.
    """
    rerun = require_rerun()
    prepare_rrd(path)
    sink = RerunSink(rerun, path)
    try:
        fill(sink, data, events)
    finally:
        sink.close()


class RerunSink:
    """Writes what a replay or a running robot shows: to a file, or to a viewer.

    Args:
        rerun: the module.
        target: an .rrd file, `LIVE` to open a viewer here, or the address of an open one (rerun+http://...).
        application: what the viewer calls it.
        timeline: name of its time.
    """

    def __init__(
        self, rerun: Any, target: Path | str, *, application: str = APPLICATION, timeline: str = TIMELINE
    ) -> None:
        self._rerun = rerun
        self._timeline = timeline
        self._trees: dict[str, Any] = {}
        self._stream: Any = rerun.RecordingStream(application)
        if isinstance(target, Path):
            self._stream.save(str(target))
        elif target == LIVE:
            self._stream.spawn()
        else:
            self._stream.connect_grpc(target)

    def style(self, entity: Entity, *, label: str, colour: Colour, width: float, steps: bool = False) -> None:
        """See `ViewerSink.style`."""
        # Steps as they are: the viewer would average those that share a pixel.
        drawn = {"interpolation_mode": "StepAfter", "aggregation_policy": "Off"} if steps else {}
        lines = self._rerun.SeriesLines(colors=[colour], widths=[width], names=[label], **drawn)
        self._stream.log(self._path(entity), lines, static=True)

    def series(self, entity: Entity, times_ns: Times, values: Values) -> None:
        """See `ViewerSink.series`."""
        known = np.isfinite(values)
        if not known.any():
            return
        # A row without a value is what breaks a line.
        column = self._rerun.Scalars.columns(scalars=values[known]).partition(known.astype(np.int32))
        self._send(entity, times_ns, column)

    def images(self, entity: Entity, times_ns: Sequence[int], jpegs: Sequence[bytes]) -> None:
        """See `ViewerSink.images`."""
        if not jpegs:
            return
        columns = self._rerun.EncodedImage.columns(blob=list(jpegs), media_type=["image/jpeg"] * len(jpegs))
        self._send(entity, np.asarray(times_ns, dtype=np.int64), columns)

    def strips(self, entity: Entity, strips: Sequence[Strips], *, frame: str) -> None:
        """See `ViewerSink.strips`."""
        if not strips:
            return
        columns = self._rerun.LineStrips3D.columns(
            strips=[line for one in strips for line in one.lines],
            colors=[colour for one in strips for colour in one.colours],
            radii=[STRIP_RADIUS for one in strips for _ in one.lines],
        ).partition([len(one.lines) for one in strips])
        self._stream.log(self._path(entity), self._rerun.CoordinateFrame(frame), static=True)
        self._send(entity, np.array([one.time_ns for one in strips], dtype=np.int64), columns)

    def robot(self, robot: RobotPose) -> None:
        """See `ViewerSink.robot`."""
        from rerun.urdf import UrdfTree

        with tempfile.TemporaryDirectory(prefix="wam-rerun-") as folder:
            file = Path(folder) / f"{robot.name}.urdf"
            file.write_text(robot.urdf, encoding="utf-8")
            tree = UrdfTree.from_file_path(
                file,
                entity_path_prefix=robot.name,
                frame_prefix=f"{robot.name}/",
                static_transform_entity_path=f"{robot.name}/fixed",
            )
            tree.log_urdf_to_recording(self._stream)
        root = tree.root_link().name
        # The name of the robot alone is a frame too, so that others need not know its root link.
        self._fix(f"{robot.name}/root", parent=robot.stands_on or "world", child=robot.name)
        self._fix(f"{robot.name}/base", parent=robot.name, child=f"{robot.name}/{root}")
        self._trees[robot.name] = tree
        self.move(robot)

    def move(self, robot: RobotPose) -> None:
        """See `LiveSink.move`."""
        tree = self._trees[robot.name]
        for name, positions in robot.joints.items():
            joint = tree.get_joint_by_name(name)
            if joint is None or not len(positions):
                continue
            columns = joint.compute_transform_columns(positions.tolist(), clamp=False)
            self._send((robot.name, "joints", name), robot.times_ns, columns)

    def log(
        self, entity: Entity, times_ns: Sequence[int], texts: Sequence[str], levels: Sequence[LogLevel]
    ) -> None:
        """See `ViewerSink.log`."""
        if not texts:
            return
        columns = self._rerun.TextLog.columns(text=list(texts), level=[level.value for level in levels])
        self._send(entity, np.asarray(times_ns, dtype=np.int64), columns)

    def document(self, entity: Entity, text: str) -> None:
        """See `ViewerSink.document`."""
        content = self._rerun.TextDocument(text, media_type="text/markdown")
        self._stream.log(self._path(entity), content, static=True)

    def arrange(self, layout: Layout) -> None:
        """See `ViewerSink.arrange`."""
        import rerun.blueprint as rrb

        def plot(name: str, *entities: Entity) -> Any:
            contents = [f"{self._path(entity)}/**" for entity in entities]
            # A legend would cover a small plot; the text about the replay says what the colours mean.
            return rrb.TimeSeriesView(name=name, origin="/", contents=contents, plot_legend=hidden)

        hidden = rrb.PlotLegend(visible=False)

        pictures = [
            rrb.Spatial2DView(name=entity[-1], origin=self._path(entity)) for entity in layout.cameras
        ]
        seen: list[Any] = [rrb.Grid(*pictures, name="cameras")] if pictures else []
        if layout.world:
            contents = [f"{self._path(entity)}/**" for entity in layout.world]
            seen.append(
                rrb.Spatial3DView(name="robot", origin=self._path(layout.world[0]), contents=contents)
            )
        tabs = [
            rrb.Grid(
                *(plot(joint, entity) for joint, entity in joints), name=name, grid_columns=PLOTS_IN_A_ROW
            )
            for name, joints in layout.joints.items()
        ]
        texts = [
            rrb.TextLogView(name="events", origin=self._path(layout.log)),
            *(rrb.TextDocumentView(name=entity[-1], origin=self._path(entity)) for entity in layout.about),
        ]
        below = rrb.Horizontal(
            plot("rung", layout.rung), plot("age and latency [s]", *layout.ages), rrb.Tabs(*texts)
        )
        rows = [rrb.Horizontal(*seen)] if seen else []
        rows += [rrb.Tabs(*tabs, name="joints")] if tabs else []
        self._stream.send_blueprint(
            rrb.Blueprint(
                rrb.Vertical(*rows, below, row_shares=[*([4] * len(rows)), 3]),
                rrb.TimePanel(timeline=self._timeline, state="collapsed"),
                rrb.SelectionPanel(state="collapsed"),
                auto_views=False,
            )
        )

    def close(self) -> None:
        """See `ViewerSink.close`."""
        self._stream.flush()
        self._stream.disconnect()

    def _fix(self, entity: str, *, parent: str, child: str) -> None:
        transform = self._rerun.Transform3D(
            translation=[0.0, 0.0, 0.0], parent_frame=parent, child_frame=child
        )
        self._stream.log(entity, transform, static=True)

    def _send(self, entity: Entity, times_ns: Times, columns: Any) -> None:
        index = self._rerun.TimeColumn(self._timeline, timestamp=times_ns.astype("datetime64[ns]"))
        self._stream.send_columns(self._path(entity), indexes=[index], columns=columns)

    def _path(self, entity: Entity) -> str:
        return str(self._rerun.new_entity_path(list(entity)))
