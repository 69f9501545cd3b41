# SPDX-License-Identifier: Apache-2.0
"""Where faults are injected: a running stack whose safety node gets its messages through a relay."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fault_outcome import CLEAR, NOMINAL, STOP, Outcome
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from motion import MEASURED_STILL, STILL, Bounds, Motion, Track, merge
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.qos import QoSProfile
from relay import Fault, Relay
from rig import WALL_TIMEOUT_S, Rig, running_rig
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from waiting import machine_speed

from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.ros.qos import COMMAND, EVENT
from wam.stack.node_specs import executor, planner, policy_processes, safety, sim
from wam.stack.processes import NodeProcess, NodeSpec

ROOT = Path(__file__).resolve().parents[2]
SPECS = {
    "sim": sim,
    "safety": safety,
    "planner": planner,
    "executor": executor,
    "policy": lambda options: policy_processes(options)[0],
}

QUIET_S = 1.0
"""How long a fault that must change nothing is kept up [s of simulated time]."""

REST_NS = 60_000_000
"""An arm that was not moved for so long rests [ns]."""

RELEASED_S = 0.6
"""A driver that has been silent for so long is not waited for any more [s of simulated time]."""

STAY_S = 0.2
"""How long an arm in STOP is watched before it is cleared [s of simulated time]."""

STAYS = 0.002
"""Most motion of an arm in STOP, which a measured servo still makes [rad]."""

FULL_SPEED = 1.01
"""Highest share of a speed limit, by differences of stamps."""

CLEAR_S = 10.0
"""For how long a latched STOP is asked to let go: its cause may outlast the fault, but no longer than this [s]."""

Undo = Callable[[], None]
Act = Callable[["Bed"], Undo]


@dataclasses.dataclass(frozen=True)
class Case:
    """A fault and what must come of it.

    Attributes:
        name: what goes wrong, for the table.
        expected: rung that must be reached; NOMINAL means that the arm must never be held or stopped.
        codes: events that may report it; empty for any.
        bounds: what it may do to the motion.
        again: what it takes to move again.
        chunks: what happens to action chunks.
        states: what happens to joint states.
        images: what happens to images.
        act: anything else, called once; it returns what undoes it.
        before: what must stand before the fault; called before the clock of the table runs.
    """

    name: str
    expected: Ladder
    codes: tuple[str, ...] = ()
    bounds: Bounds = dataclasses.field(kw_only=True)
    again: str = dataclasses.field(default="nothing", kw_only=True)
    chunks: Callable[[], Fault] | None = dataclasses.field(default=None, kw_only=True)
    states: Callable[[], Fault] | None = dataclasses.field(default=None, kw_only=True)
    images: Callable[[], Fault] | None = dataclasses.field(default=None, kw_only=True)
    act: Act | None = dataclasses.field(default=None, kw_only=True)
    before: Callable[[Bed], None] | None = dataclasses.field(default=None, kw_only=True)


class Bed:
    """A running stack whose safety node listens to a relay.

    Args:
        rig: nothing of it is started yet.
        folder: where recordings go.
    """

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.folder = rig, folder
        self.robot = load_robot(rig.options.robot)
        self.recordings = itertools.count()
        self.recording: subprocess.Popen[str] | None = None
        self.relay = Relay(self.robot)
        rig.time.include(self.relay.node, relay=True)
        self._buttons: list[Any] = []
        self.estop = self.relay.node.create_publisher(Bool, "estop", EVENT)
        self.streams = all(group.name in rig.recorder.commanded for group in self.robot.groups)
        self._start_together("sim", "safety")
        if self.streams:
            rig.until_commanded()
        self._start_together(*(("policy",) if rig.options.composed else ("planner", "executor")))
        rig.until_settled()

    def start(self, name: str) -> None:
        """Start a process."""
        self.launch(SPECS[name](self.rig.options))

    def _start_together(self, *names: str) -> None:
        """Start processes of a new stack; time stands still until they take part."""
        for name in names:
            self.start(name)
        self.rig.until_taking_part(*(SPECS[name](self.rig.options) for name in names))

    def launch(self, spec: NodeSpec, *, name: str = "") -> NodeProcess:
        """Start a process, under another name; the nodes of the suite get their messages through the relay."""
        images = Relay.image_remaps(self.robot)
        remaps = {
            "safety": Relay.remaps(self.robot),
            "planner": images,
            "executor": images,
            "policy": images,
        }
        given = remaps.get(spec.name, {})
        return self.rig.start(dataclasses.replace(spec, remaps=given, name=name or spec.name))

    def button(self, qos: QoSProfile) -> Any:
        """Return a publisher on the topic of the emergency stop, for as long as the safety node hears it."""
        # A listener that does not match is heard by another one of the safety node: no warning.
        silent = PublisherEventCallbacks(incompatible_qos=lambda _info: None)
        made = self.relay.node.create_publisher(Bool, "estop", qos, event_callbacks=silent)
        self._buttons.append(made)
        return self._buttons[-1]

    def track(self, first_ns: int, last_ns: int) -> Track:
        """Return what was commanded in a time [ns]; measured, where commands are trajectories."""
        recorder = self.rig.recorder
        series = recorder.commanded if self.streams else recorder.measured
        with recorder.listener.locked():
            parts = [series[group.name].series() for group in self.robot.groups]
        return merge(
            self.robot.name,
            [(one.stamps_ns, one.positions) for one in parts],
            still=STILL if self.streams else MEASURED_STILL,
        ).between(first_ns, last_ns)

    def until_rest(self) -> None:
        """Wait until the arm rests, or nothing is commanded any more."""

        def rests(_recorder: Any) -> bool:
            newest = self.track(self.now_ns() - REST_NS, self.now_ns())
            return newest.rest_ns() == newest.times_ns[0]

        self.rig.until("the arm at rest", rests)

    def renew(self) -> None:
        """Build all but the planner anew, so that nothing of an earlier fault is left, and let the arms move.

        An executor with its own process is new as well: the built-in policy `fake` waves about the position that it
        sees first, which is home again, and begins at zero.
        """
        ended = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
        renewed = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
        executor = () if self.rig.options.composed else ("wam_executor",)
        for node in (*executor, "wam_safety", "wam_sim"):
            self.change(node, *ended)
        # The planner stays, and follows another driver only once the one before has been silent.
        self.rig.run(RELEASED_S)
        while self._buttons:
            self.relay.node.destroy_publisher(self._buttons.pop())
        first = {name: len(series.stamps) for name, series in self.rig.recorder.commanded.items()}
        events = len(self.rig.recorder.safety)
        for node in ("wam_sim", "wam_safety"):
            self.change(node, *renewed)
        self.rig.until(
            "commands to the new robot",
            lambda r: all(len(series.stamps) > first[name] for name, series in r.commanded.items()),
        )
        for node in executor:
            self.change(node, *renewed)
        self.rig.until("an event of the new safety node", lambda r: len(r.safety) > events)
        self.rig.until_settled()

    def change(self, node: str, *transitions: int) -> None:
        """Take a lifecycle node through transitions; time stands still meanwhile, as they do not depend on it."""
        client = self.relay.node.create_client(ChangeState, f"{node}/change_state")
        self.rig.until(f"{node}", lambda _: client.service_is_ready())
        for number in transitions:
            done = threading.Event()
            answer = client.call_async(ChangeState.Request(transition=Transition(id=number)))
            answer.add_done_callback(lambda _, done=done: done.set())
            assert done.wait(WALL_TIMEOUT_S), f"{node} does not answer transition {number}; {machine_speed()}"
            assert answer.result().success, f"{node} refuses transition {number}"
        self.relay.node.destroy_client(client)

    def call(self, kind: type[Any], name: str, request: Any = None) -> Any:
        """Return the answer of a service, while time passes."""
        client = self.relay.node.create_client(kind, name)
        self.rig.until(f"the service {name}", lambda _: client.service_is_ready())
        answer = client.call_async(kind.Request() if request is None else request)
        self.rig.until(f"the answer of {name}", lambda _: answer.done())
        self.relay.node.destroy_client(client)
        return answer.result()

    def now_ns(self) -> int:
        """Return the simulated time [ns]."""
        return self.rig.time.now_ns

    def inject(self, case: Case) -> Outcome:
        """Put a fault in force, watch what comes of it, take it out, and let the arm move again."""
        if case.before is not None:
            case.before(self)
            self.rig.until_settled()
        events = self.rig.recorder.safety
        first, begun = len(events), self.now_ns()
        makers = (("chunks", case.chunks), ("states", case.states), ("images", case.images))
        self.relay.inject(**{name: make() for name, make in makers if make is not None})
        undo = case.act(self) if case.act is not None else None
        if case.expected is NOMINAL:
            self.rig.run(QUIET_S)
            rung, reached = max((event.ladder_to for event in events[first:]), default=NOMINAL), begun
        else:
            self.rig.until(
                f"rung {case.expected.name}",
                lambda r: any(event.ladder_to >= case.expected for event in r.safety[first:]),
            )
            seen = next(event for event in events[first:] if event.ladder_to >= case.expected)
            rung, reached = seen.ladder_to, seen.stamp_ns
            self.until_rest()
        codes = {event.code for event in events[first:]}
        ended = self.now_ns()
        self.relay.inject()
        if undo is not None:
            undo()
        again, problems = self.recover()
        track, whole = self.track(begun, ended), self.track(begun, self.now_ns())
        if whole.speed() > FULL_SPEED:
            problems.append(f"speed {whole.speed():.2f} of the limit until the arm moves again")
        motion = Motion(
            travel=track.travel(),
            speed=track.speed(),
            distance=whole.distance(),
            rest=None if case.expected is NOMINAL else max(0, track.rest_ns() - begun) * 1e-9,
        )
        return Outcome(rung, (reached - begun) * 1e-6, codes, motion, again, problems)

    def recover(self) -> tuple[str, list[str]]:
        """Clear a latched STOP, and wait until the arms move again; return what it took, and what went wrong."""
        events, problems = self.rig.recorder.safety, []
        if not events or events[-1].ladder_to is not STOP:
            self.rig.until_moving()
            return "nothing", problems
        still = self.now_ns()
        self.rig.run(STAY_S)
        if self.track(still, self.now_ns()).travel() > STAYS:
            problems.append("the arm moves under STOP")
        cleared = lambda: self.call(Trigger, "wam_safety/clear_fault").success  # noqa: E731
        assert self.rig.time.until(cleared, timeout=CLEAR_S, least=WALL_TIMEOUT_S), (
            f"STOP is still latched: {events[-1].text}"
        )
        self.rig.until_moving()
        return CLEAR, problems

    def close(self) -> None:
        """Stop relay and recording."""
        if self.recording is not None and self.recording.poll() is None:
            self.recording.kill()
            self.recording.communicate()
        self.rig.time.leave_out(self.relay.node)
        self.rig.time.exclude(self.relay.node.get_fully_qualified_name())
        self.relay.close()


class Beds:
    """Gives every fault a fresh robot: the stack built anew in its processes, or new processes after a failure.

    Args:
        folder: where logs and recordings go.
        robot: name of the robot file.
        options: of the stack, beside the robot.
    """

    def __init__(self, folder: Path, robot: str = "piper", **options: Any) -> None:
        self._folder, self._robot, self._options = folder, robot, options
        self._numbers = itertools.count()
        self._stack = contextlib.ExitStack()
        self._bed: Bed | None = None

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Bed]:
        """A bed whose robot is fresh; its processes end where the block fails."""
        try:
            if self._bed is None:
                folder = self._folder / str(next(self._numbers))
                rig = self._stack.enter_context(running_rig(folder / "logs", robot=self._robot))
                rig.options = dataclasses.replace(rig.options, **self._options)
                self._bed = Bed(rig, folder)
                self._stack.callback(self._bed.close)
            else:
                self._bed.renew()
            yield self._bed
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End every process."""
        self._bed = None
        self._stack.close()


def freeze(process: str, seconds: float) -> Act:
    """Return an act that stops a process for a while, as a GIL that is held or a machine that swaps does."""

    def act(bed: Bed) -> Undo:
        bed.rig.freeze(process)
        bed.rig.run(seconds)
        bed.rig.thaw(process)
        return lambda: None

    return act


def freeze_executor(bed: Bed) -> Undo:
    """Stop the executor until the fault is undone."""
    bed.rig.freeze("executor")
    return lambda: bed.rig.thaw("executor")


def kill(process: str) -> Act:
    """Return an act that kills a process with SIGKILL; undoing it starts it again."""

    def act(bed: Bed) -> Undo:
        bed.rig.kill(process)
        return lambda: bed.start(process)

    return act


def restart_safety(bed: Bed) -> Undo:
    """Kill the safety node and start it again at once."""
    bed.rig.kill("safety")
    bed.start("safety")
    return lambda: None


def estop_topic(bed: Bed) -> Undo:
    """Hold the emergency stop by its topic."""
    bed.estop.publish(Bool(data=True))
    return lambda: bed.estop.publish(Bool(data=False))


def estop_service(bed: Bed) -> Undo:
    """Call the emergency stop."""
    bed.call(Trigger, "wam_safety/estop")
    return lambda: None


def second_publisher(bed: Bed) -> Undo:
    """Publish commands from another node."""
    other = bed.relay.node.create_publisher(JointState, bed.robot.groups[0].command_topic, COMMAND)
    return lambda: bed.relay.node.destroy_publisher(other)


def start_recording(bed: Bed) -> None:
    """Start `wam record` and wait until it writes."""
    folder = bed.folder / f"recording{next(bed.recordings)}"
    command = [sys.executable, "-m", "wam.cli.main", "record", str(folder), "--robot", "piper"]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    bed.recording = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    file = folder / f"{folder.name}.mcap"
    bed.rig.until("the recording", lambda _: file.exists() and file.stat().st_size > 100_000)


def full_disk(bed: Bed) -> Undo:
    """From now on the file of the recording may not grow."""
    recording = bed.recording
    assert recording is not None
    resource.prlimit(recording.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    bed.rig.until("the end of the recording", lambda _: recording.poll() is not None)
    _, text = recording.communicate()
    assert recording.returncode == 3, text
    assert "the disk does not take more" in text.splitlines()[-1]
    return lambda: None
