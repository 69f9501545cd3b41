# SPDX-License-Identifier: Apache-2.0
"""The running stack of a soak, and its operator: who clears a STOP and lets the arm go."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from wam.bench.soak.operator import OperatorAct, operator_act
from wam.bench.soak.options import SoakOptions
from wam.bench.soak.relay import REMAPS, ChunkRelay
from wam.bench.soak.sampling import LogFolder, Segments, sample
from wam.bench.soak.watch import SoakWatch
from wam.core.verdict import Ladder
from wam.robots.description import RobotDescription
from wam.ros.command_line import ParameterValue
from wam.ros.qos import EVENT
from wam.stack.lock_step import START_NS, LockStep
from wam.stack.node_specs import StackOptions, executor, planner, safety, sim
from wam.stack.processes import NodeSpec
from wam.stack.runner import StackFailed, StackRunner
from wam.stack.stepped import SteppedStack, remapped

RECOVERY_S = 30.0
"""After a fault the arm moves again within this time, or the soak has failed [s of simulated time]."""

RECOVERY_WALL_S = 120.0
"""It is not given up before this much wall time has passed: processes start and are discovered in wall time [s]."""

OPERATOR_S = 0.5
"""Time between two looks of the operator at the state of the safety node [s of simulated time]."""

PRESSED_S = 0.2
"""How long the operator presses the emergency stop [s of simulated time]."""

FRESH_CHUNKS = 2
"""Chunks that the executor has sent since, before it counts as back."""

CHUNK_PERIOD_S, PLAN_PERIOD_S = 0.05, 0.2


class Bed:
    """A running stack whose chunks pass through a relay, in lock-step.

    Args:
        robot: what is simulated.
        options: of the run; logs and audit files go to `logs/` and `audit/` of its folder.
        on_tick: called after every tick of simulated time.
    """

    def __init__(self, robot: RobotDescription, options: SoakOptions, *, on_tick: Callable[[], None]) -> None:
        self.robot, self._audit = robot, options.folder / "audit"
        self._options = StackOptions(
            robot=options.robot,
            policy="fake",
            seed=options.seed,
            composed=False,
            plan_period=PLAN_PERIOD_S,
            chunk_period=CHUNK_PERIOD_S,
        )
        self.logs = LogFolder(options.folder / "logs")
        self.segments = Segments()
        environment = dict(os.environ, ROS_LOG_DIR=str(self.logs.ros))
        self.watch = SoakWatch(robot, options.file)
        self.relay = ChunkRelay()
        self.stack = SteppedStack(
            StackRunner(log_dir=self.logs.folder, environment=environment),
            self.watch.listener,
            LockStep(ask=False),
            on_tick=on_tick,
            wall=RECOVERY_WALL_S,
        )
        self.estop = self.watch.listener.node.create_publisher(Bool, "estop", EVENT)
        self.reduced = self.watch.listener.node.create_publisher(Bool, "reduced_speed", EVENT)

    @property
    def simulated(self) -> float:
        """Simulated time so far [s]."""
        return (self.stack.time.now_ns - START_NS) * 1e-9

    def start_all(self) -> None:
        """Start every process and wait until the arm moves.

        Raises:
            StackFailed: it does not.
        """
        for name in ("sim", "safety", "planner", "executor"):
            self.start(name)
        self.recover()

    def start(self, name: str) -> None:
        """Start a process, or start it again."""
        self.stack.start(self._spec(name))

    def kill(self, name: str) -> None:
        """Kill a process; what it leaves in shared memory is known before."""
        self.segments.note(self.stack.runner.processes[name].pid)
        self.stack.kill(name)

    def recover(self) -> float:
        """Do what an operator does until the arm moves again; return how long that took [s of simulated time].

        Raises:
            StackFailed: it does not move within `RECOVERY_S`.
        """
        watch, stack, begun_ns = self.watch, self.stack, self.stack.time.now_ns
        chunks, begun = watch.chunks, time.monotonic()

        def back() -> bool:
            return watch.chunks >= chunks + FRESH_CHUNKS and watch.moves_since(begun_ns)

        while True:
            if stack.seen(back, timeout=OPERATOR_S, wall=0.0):
                break
            stack.runner.require_alive("recovering")
            passed = (stack.time.now_ns - begun_ns) * 1e-9
            if passed > RECOVERY_S and time.monotonic() - begun > RECOVERY_WALL_S:
                raise StackFailed(f"the arm does not move again: {self._state()}", value=f"{passed:.1f} s")
            self._operate()
        self.driver_away(False)
        return (stack.time.now_ns - begun_ns) * 1e-9

    def driver_away(self, away: bool) -> None:
        """Tell the judges whether commands reach the robot: after it was away, they begin where it is measured."""
        for judge in self.watch.judges.values():
            judge.away = away

    def sample(self) -> dict[str, object]:
        """Return what the run uses now."""
        processes = self.stack.runner.processes
        pids = {name: one.pid for name, one in processes.items() if one.exit_code() is None}
        return sample(
            {**pids, "soak": os.getpid()}, segments=self.segments, logs=self.logs, audit=self._audit
        )

    def tails(self) -> Mapping[str, str]:
        """Return the last lines of the log of every process."""
        return {name: one.log_tail(15) for name, one in self.stack.runner.processes.items()}

    def close(self) -> None:
        """End everything."""
        self.stack.time.exclude(self.relay.node.get_fully_qualified_name())
        self.stack.close()
        self.relay.close()
        self.watch.close()

    def _operate(self) -> None:
        status = self.watch.status
        if status is None or not status.active:
            return
        act = operator_act(Ladder(status.rung), status.code)
        if act is OperatorAct.CLEAR:
            self.stack.call(Trigger, "wam_safety/clear_fault")
        elif act is OperatorAct.RESUME:
            self.stack.call(Trigger, "wam_safety/resume")
        elif act is OperatorAct.PRESS:
            self.estop.publish(Bool(data=True))
            self.stack.run(PRESSED_S)
            self.estop.publish(Bool(data=False))

    def _state(self) -> str:
        status, watch = self.watch.status, self.watch
        if status is None:
            return "the safety node is silent"
        return f"{Ladder(status.rung).name}, {status.code}: {status.text}; {watch.chunks} chunks so far"

    def _spec(self, name: str) -> NodeSpec:
        make = {"sim": sim, "safety": safety, "planner": planner, "executor": executor}[name]
        spec = make(self._options)
        more: dict[str, dict[str, dict[str, ParameterValue]]] = {
            # As on hardware: the operator lets the arm go, and every change of rung is recorded.
            "safety": {"wam_safety": {"simulated": False, "audit_dir": str(self._audit)}},
            "executor": {"wam_executor": {"sampler": "centre: home"}},
        }
        added = more.get(name, {})
        parameters = {node: {**values, **added.get(node, {})} for node, values in spec.parameters.items()}
        return remapped(replace(spec, parameters=parameters), REMAPS if name == "safety" else {})
