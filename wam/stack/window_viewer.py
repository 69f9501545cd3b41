# SPDX-License-Identifier: Apache-2.0
"""`wam demo --viewer`: a process that shows the simulated world in MuJoCo's own viewer.

It has a world of its own, made as the simulator made its world, and is sent the positions of robot and objects. Inside
the simulator's process the window would take the interpreter's lock from physics and cameras, bring a second OpenGL
beside their EGL, and take the simulation with it when its driver crashes. As it is, the simulator pays for one message
thirty times a second and the demo goes on, whatever becomes of the window.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wam.core.errors import WamError
from wam.core.signals import stop_on_signals
from wam.devices.loader import load_robot
from wam.evaluation.closed_loop.options import EvalOptions
from wam.ros.command_line import ParameterValue
from wam.sim.gl import refusal_of_window
from wam.sim.model import position_names
from wam.sim.tasks.world import make_world
from wam.sim.window import MujocoWindow, Window
from wam.stack import topics
from wam.stack.listener import TopicListener
from wam.stack.onlooker import OnlookerEnd, give_way, onlooker
from wam.stack.processes import NodeSpec
from wam.stack.samples import JointSample

NODE = "wam_window"
SHOW_PERIOD_S = 1 / 30
POLL_S = 0.1
CLOSE_S = 5.0
"""Time to close the window [s]."""

EXIT_FAILED = 1

Positions = npt.NDArray[np.float64]


@contextlib.contextmanager
def window_beside(
    options: EvalOptions, *, robot: str, log_dir: Path, warn: Callable[[str], None]
) -> Iterator[None]:
    """Open a window, and show the simulated world of a run in it while the block runs.

    Args:
        options: task, setting and seed of the world.
        robot: name of the robot file.
        log_dir: where the process writes `window.log`.
        warn: called at the end of the block with one line, if the window was closed or failed.

    Raises:
        MachineFault: the window did not open.
    """
    ready = log_dir.resolve() / "window.open"
    ready.unlink(missing_ok=True)
    world: dict[str, ParameterValue] = {
        "robot": robot,
        "task": options.task.name,
        "setting": options.setting.value,
        "seed": options.seeds[0],
        "ready": str(ready),
    }
    spec = NodeSpec("window", "wam.stack.window_viewer", {NODE: world})

    def ended(end: OnlookerEnd) -> None:
        if text := how_it_ended(end):
            warn(text)

    with onlooker(spec, log_dir=log_dir, ended=ended, patience=CLOSE_S) as process:
        # Before the nodes start: opening it is work for a machine without a graphics card.
        while not ready.exists():
            if process.exit_code() is not None:
                raise refusal_of_window(_last_line(process.log_tail()), os.environ)
            time.sleep(POLL_S)
        ready.unlink()
        yield


def how_it_ended(end: OnlookerEnd) -> str:
    """Return what there is to say about the end of the window, in one line, or ""."""
    if not end.code:
        return "the window of the viewer was closed before the run ended" if end.early else ""
    why = f": {_last_line(end.tail)}" if end.code > 0 else ""
    return f"the window of the viewer ended with exit code {end.code} {end.when}{why} ({end.log})"


def _last_line(text: str) -> str:
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return said[-1] if said else "it said nothing"


def main(arguments: Sequence[str]) -> None:
    """Show until SIGINT or SIGTERM; the last argument is a file of parameters, as `NodeSpec` writes it."""
    parameters = json.loads(Path(arguments[-1]).read_text(encoding="utf-8"))[f"/**/{NODE}"]["ros__parameters"]
    # Where there is no graphics card, Mesa would draw with a thread on every core.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    stop = threading.Event()
    code = 0
    with stop_on_signals(stop):
        try:
            _watch(parameters, stop)
        except WamError as error:
            print(error, flush=True)
            code = EXIT_FAILED
    # The viewer's thread draws until the process is gone, and crashes in an interpreter that is being taken down.
    sys.stdout.flush()
    os._exit(code)


def _watch(parameters: dict[str, str | int], stop: threading.Event) -> None:
    world = make_world(
        load_robot(str(parameters["robot"])),
        task=str(parameters["task"]),
        setting=str(parameters["setting"]),
        seed=int(parameters["seed"]),
    )
    names = position_names(world.model)
    window = MujocoWindow(world, given_up=stop.is_set)
    Path(str(parameters["ready"])).touch()
    give_way()
    newest = Newest()
    listener = TopicListener(NODE)
    listener.listen(topics.world_positions(names), newest.take)
    listener.start()
    try:
        show_until_closed(window, newest.pop, stop)
    finally:
        listener.close()
        window.close()
    for problem in listener.problems:
        raise WamError(problem)


class Newest:
    """The newest positions that have not been shown. Any thread."""

    def __init__(self) -> None:
        self._positions: Positions | None = None
        self._lock = threading.Lock()

    def take(self, sample: JointSample, arrival_ns: int) -> None:
        """Replace what is there."""
        with self._lock:
            self._positions = sample.positions

    def pop(self) -> Positions | None:
        """Return them, or None where there are none since the last call."""
        with self._lock:
            positions, self._positions = self._positions, None
        return positions


def show_until_closed(window: Window, newest: Callable[[], Positions | None], stop: threading.Event) -> None:
    """Show the newest positions, at most 30 times a second, until `stop` is set or the user closes the window.

    Args:
        window: where to show them; it is left as it is.
        newest: returns float64 [nq], or None where there is nothing new.
        stop: ends it.
    """
    while window.is_open() and not stop.is_set():
        positions = newest()
        if positions is not None:
            window.show(positions)
        stop.wait(SHOW_PERIOD_S)


if __name__ == "__main__":
    main(sys.argv[1:])
