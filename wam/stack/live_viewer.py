# SPDX-License-Identifier: Apache-2.0
"""`wam demo --rerun`: a process that only listens to the nodes, and shows them in the rerun viewer or a file of it.

It runs at the lowest priority, publishes nothing, and nothing waits for it: when it dies, the demo goes on.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from wam.core.chunk import ActionChunk
from wam.core.signals import stop_on_signals
from wam.devices.loader import load_robot
from wam.evaluation.replay.rerun import RerunSink, parse_target, prepare_rrd, require_rerun
from wam.robots.description import CommandKind, JointGroup, RobotDescription
from wam.stack import topics
from wam.stack.listener import TopicListener
from wam.stack.live_view import LiveView
from wam.stack.onlooker import OnlookerEnd, give_way, onlooker
from wam.stack.processes import NodeSpec
from wam.stack.samples import ImageSample, JointSample, SafetyMove

NODE = "wam_viewer"
APPLICATION = "wam demo"
TIMELINE = "simulated time"
SHOW_PERIOD_S = 0.2
FLUSH_S = 15.0
"""Time to write the rest of a file [s]."""


@contextlib.contextmanager
def watched(
    target: Path | str, *, robot: str, about: str, log_dir: Path, warn: Callable[[str], None]
) -> Iterator[None]:
    """Have a viewer watch the nodes while the block runs.

    Args:
        target: as `parse_target` returns it.
        robot: name of the robot file.
        about: a text for whoever looks at it.
        log_dir: where the process writes `viewer.log`.
        warn: called at the end of the block with what went wrong, if the viewer ended before it or failed.

    Raises:
        MissingDependency: rerun is not installed, or too old.
        ConfigError: the file does not end in .rrd.
        RecordingError: the file cannot be written.
    """
    require_rerun()
    if isinstance(target, Path):
        target = target.resolve()
        prepare_rrd(target)
    spec = NodeSpec(
        "viewer", "wam.stack.live_viewer", {NODE: {"target": str(target), "robot": robot, "about": about}}
    )

    def ended(end: OnlookerEnd) -> None:
        if end.early or end.code:
            warn(
                f"the rerun viewer ended with exit code {end.code} {end.when}; the last lines of {end.log}:\n"
                f"{end.tail}"
            )

    with onlooker(spec, log_dir=log_dir, ended=ended, patience=FLUSH_S):
        yield


def main(arguments: Sequence[str]) -> None:
    """Watch until SIGINT or SIGTERM; the last argument is a file of parameters, as `NodeSpec` writes it."""
    parameters = json.loads(Path(arguments[-1]).read_text(encoding="utf-8"))[f"/**/{NODE}"]["ros__parameters"]
    give_way()
    stop = threading.Event()
    began = time.monotonic()
    with stop_on_signals(stop):
        sink = RerunSink(
            require_rerun(),
            parse_target(parameters["target"]),
            application=APPLICATION,
            timeline=TIMELINE,
        )
        robot = load_robot(parameters["robot"])
        view = LiveView(sink, robot, about=parameters["about"])
        listener = TopicListener(NODE)
        subscribe(view, robot, listener)
        listener.start()
        try:
            while not stop.wait(SHOW_PERIOD_S):
                _show(view, listener)
        finally:
            listener.close()
            _show(view, listener)
            sink.close()
    print(f"{time.process_time():.2f} s of processor time in {time.monotonic() - began:.1f} s", flush=True)


def _show(view: LiveView, listener: TopicListener) -> None:
    with listener.locked():
        waiting = view.collect()
    view.show(waiting)


def subscribe(view: LiveView, robot: RobotDescription, listener: TopicListener) -> None:
    """Have a view take what the nodes of a robot publish."""
    for group in robot.groups:
        listener.listen(topics.joint_states(group), partial(_measured, view, group), in_bulk=True)
        if group.command_kind is CommandKind.JOINT_STATE_STREAM:
            listener.listen(topics.joint_commands(group), partial(_commanded, view, group), in_bulk=True)
    for camera in robot.cameras:
        listener.listen(topics.images(camera), partial(_image, view))
    listener.listen(topics.CHUNKS, partial(_chunk, view))
    listener.listen(topics.SAFETY_EVENTS, partial(_move, view))


def _measured(view: LiveView, group: JointGroup, sample: JointSample, arrival_ns: int) -> None:
    view.take_measured(group, sample)


def _commanded(view: LiveView, group: JointGroup, sample: JointSample, arrival_ns: int) -> None:
    view.take_commanded(group, sample)


def _image(view: LiveView, image: ImageSample, arrival_ns: int) -> None:
    view.take_image(image)


def _chunk(view: LiveView, chunk: ActionChunk, arrival_ns: int) -> None:
    view.take_chunk(chunk)


def _move(view: LiveView, event: SafetyMove, arrival_ns: int) -> None:
    view.take_move(event.stamp_ns, event.move)


if __name__ == "__main__":
    main(sys.argv[1:])
