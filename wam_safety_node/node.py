# SPDX-License-Identifier: Apache-2.0
"""The safety node: plumbing between ROS and `SafetyCycle`."""

from __future__ import annotations

import threading
import time
import traceback
from functools import partial
from typing import Any

from wam import __version__
from wam.core.chunk.admission import check_chunk_size
from wam.core.chunk.splice import Strategy
from wam.core.clock import seconds_to_ns
from wam.core.input_guard import Arrival, RefusedInput
from wam.core.safety.collision import RemoteChecker
from wam.core.verdict import Finding, Ladder, Verdict
from wam.devices.loader import load_robot
from wam.devices.registry import estop_feeds
from wam.robots.collision import model_joints
from wam.robots.description import RobotDescription
from wam.robots.estop import parse_estop_sources
from wam.ros.conversions import finding_to_event, message_to_chunk
from wam.ros.diagnostics import Diagnostics
from wam.ros.lifecycle import WamNode
from wam.ros.lock_step import SteppedStream
from wam.ros.moveit.process import ProcessChecker, helper_command
from wam.ros.moveit.service import make_service_checker
from wam.ros.qos import CHUNK, EVENT_KEPT
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.cycle import CycleResult, SafetyCycle
from wam.runtime.safety.effort_guard import EffortGuard
from wam.runtime.safety.filters import build_chain, build_measured_check, build_speed_limits
from wam.runtime.safety.stream import CommandStream, StreamHealth
from wam_msgs.msg import ActionChunk, SafetyEvent
from wam_safety_node.arm_watch import LOOK_PERIOD_S, ArmWatch, ReducedSpeedSwitch
from wam_safety_node.claim import Claim, command_topics
from wam_safety_node.contracts import chunk_contract, driver_contract, refusal_code
from wam_safety_node.estop import EstopListener
from wam_safety_node.extras import Extras
from wam_safety_node.joint_states import JointStates
from wam_safety_node.operator_services import OperatorServices
from wam_safety_node.outputs import Outputs
from wam_safety_node.parameters import SafetyParameters
from wam_safety_node.readiness import LOOK_PERIOD_S as READY_PERIOD_S
from wam_safety_node.readiness import DeviceReadiness
from wam_safety_node.report import summary, values_of
from wam_safety_node.status import STATUS_PERIOD_S, SafetyState, input_log
from wam_safety_node.watch import GraphWatch

RIVAL_PERIOD_S = 0.1
"""Time between two looks for another node that commands the arm [s]."""

STATES_PERIOD_S = 0.05
"""Joint states are read before each command, and this often while none are sent [s]."""

REPORT_PERIOD_S = 0.5
STOP_TIMEOUT_S = 3.0
MAX_FAILURES = 3
"""Cycles that may fail in a row before the stream is ended."""


def awake_or_asleep_ns() -> int:
    """Return monotonic time that goes on while the computer is suspended [ns]."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class SafetyNode(WamNode[SafetyParameters]):
    """Lifecycle node `wam_safety`: chunks and joint states in, bounded commands out.

    Args:
        node_args: passed to the lifecycle node.
    """

    clock_on_demand = True

    def __init__(self, **node_args: Any) -> None:
        super().__init__("wam_safety", SafetyParameters, **node_args)
        self.cycle: SafetyCycle | None = None
        self._robot: RobotDescription | None = None
        self._outputs: Outputs | None = None
        self._stream: CommandStream | SteppedStream | None = None
        self._diagnostics: Diagnostics | None = None
        self._reason = ""
        self._period_ns = 0
        self._publishing = threading.Event()
        self._watch: GraphWatch | None = None
        self._readiness: DeviceReadiness | None = None
        self._states: JointStates | None = None
        self._claim: Claim | None = None
        self._state: SafetyState | None = None
        self._estop: EstopListener | None = None
        self._operator: OperatorServices | None = None
        self._remote: RemoteChecker | None = None
        self._failures = 0
        self._born = time.monotonic()

    @property
    def period_ns(self) -> int:
        """Time between two commands [ns]; valid once configured."""
        return self._period_ns

    @property
    def realtime(self) -> bool:
        """Whether the command thread runs at real-time priority."""
        return self._stream is not None and self._stream.realtime

    def health(self) -> StreamHealth | None:
        """Return how well deadlines were kept, None while inactive."""
        return None if self._stream is None else self._stream.health()

    def setup(self) -> None:
        """Load the robot file, build the cycle, then make the topics."""
        p = self.p
        robot = load_robot(p.robot)
        settings = settings_for(
            robot,
            strategy=Strategy(p.strategy),
            late_context_age_ns=seconds_to_ns(p.max_context_age),
            track=not p.dry_run,
            start_by_itself=p.dry_run or robot.safety.start.by_itself(simulated=p.simulated),
            simulated_time=self.simulated_time,
        )
        self._remote = self._remote_checker(robot)
        efforts = EffortGuard(robot, simulated=p.simulated)
        cycle = build_cycle(
            robot,
            settings,
            build_chain(robot, p),
            contract_hash=p.contract,
            speeds=build_speed_limits(robot, p),
            efforts=efforts if efforts.guarded and not p.dry_run else None,
            remote=self._remote,
            remote_budget_ns=seconds_to_ns(p.moveit_budget),
            wall=self.clock.now_ns if p.lock_step else awake_or_asleep_ns,
            receipt=self.clock.now_ns if self.simulated_time else time.monotonic_ns,
        )
        self._robot, self.cycle, self._period_ns = robot, cycle, settings.tick_ns
        topics = [] if p.dry_run else command_topics(self, robot)
        self._claim = Claim(self, topics, known_at=self._born + p.discovery_time)
        self.at_cleanup(self._claim.close)
        self._outputs = Outputs(self, robot, settings, dry_run=p.dry_run)
        self.at_cleanup(self._outputs.close)
        self._event_topic = self.add_publisher(SafetyEvent, "~/event", EVENT_KEPT)
        self._diagnostics = self.add_diagnostics(task="commanding", hardware_id=robot.name)
        self._inputs = input_log(
            robot,
            cycle.efforts,
            chunk_timeout_ns=settings.chunk_timeout_ns,
            context_age_ns=settings.late_context_age_ns,
        )
        self._state = SafetyState(
            self,
            robot,
            cycle,
            self._inputs,
            estops=lambda: () if self._estop is None else self._estop.states(),
            tick_ns=settings.tick_ns,
            dry_run=p.dry_run,
            audit_dir=p.audit_dir,
        )
        self.at_cleanup(self._state.close)
        self._watch = GraphWatch(
            self, robot, self._outputs, self._claim, cycle, latch_driver_loss=p.latch_driver_loss
        )
        events = self._watch.chunk_events()
        self.add_input(
            ActionChunk,
            p.chunk_topic,
            self._store_chunk,
            CHUNK,
            contract=chunk_contract(self, p, robot),
            on_refused=partial(self._refused_input, "chunk", ""),
            event_callbacks=events,
        )
        readiness = self._readiness = DeviceReadiness(self, robot, cycle, now_ns=self.clock.now_ns)
        self.at_cleanup(readiness.close)
        states = self._states = JointStates(
            self,
            p,
            robot,
            cycle,
            log=self._inputs,
            watch=self._watch,
            kind=self._outputs.state_type,
            refused=self._refused_input,
            readiness=readiness,
        )
        if not p.lock_step:
            self.add_steady_timer(STATES_PERIOD_S, states.read)
        self.add_steady_timer(READY_PERIOD_S, readiness.look)
        extras = Extras(
            self.inputs,
            robot,
            cycle,
            contract=driver_contract(p),
            speed_scaling_topic=p.speed_scaling_topic,
            on_reference=readiness.note_reference,
        )
        self.at_cleanup(extras.close)
        self._estop = self._estop_listener(robot, cycle)
        self.at_cleanup(self._estop.close)
        arm = ArmWatch(None if p.dry_run else build_measured_check(robot, p), cycle, self.clock.now_ns)
        self.add_steady_timer(LOOK_PERIOD_S, arm.look)
        switch = ReducedSpeedSwitch(self, p.reduced_speed_topic, cycle, asked=p.reduced_speed)
        self.add_steady_timer(LOOK_PERIOD_S, switch.look)
        self._operator = OperatorServices(
            self, cycle, lambda: self._stream, watch=self._watch, estop=self._estop, readiness=readiness
        )
        self.at_cleanup(self._operator.close)
        self.add_steady_timer(REPORT_PERIOD_S, self._report)
        self.add_steady_timer(RIVAL_PERIOD_S, self._watch.check_other_publishers)
        self.add_steady_timer(STATUS_PERIOD_S, self._state.publish)
        self.get_logger().info(f"safety chain: {', '.join(cycle.filters)}")
        if robot.urdf is None:
            self.get_logger().warning(f"{robot.name} has no model: collisions and workspace are NOT checked")
        for name in cycle.filters_off:
            self.get_logger().warning(f"filter {name} is OFF (parameter filters_off)")
        if efforts.left_out:
            joints = ", ".join(efforts.left_out)
            self.get_logger().warning(
                f"simulated: effort limits of {joints} are OFF, the twin does not report them"
            )
        if p.dry_run:
            self.get_logger().warning("dry run: nothing is sent to the robot (parameter dry_run)")

    def _remote_checker(self, robot: RobotDescription) -> RemoteChecker | None:
        """Return MoveIt as a checker if it was requested; its absence is then an error."""
        p = self.p
        if p.moveit == "off":
            return None
        if p.moveit == "move_group":
            return make_service_checker(self, robot, group=p.moveit_group)
        return ProcessChecker(
            model_joints(robot), helper_command(robot, group=p.moveit_group, parameters=p.moveit_params)
        )

    def _estop_listener(self, robot: RobotDescription, cycle: SafetyCycle) -> EstopListener:
        p = self.p
        where = f"the parameter `estop_sources` of {self.get_fully_qualified_name()}"
        own = robot.safety.estop_sources
        return EstopListener(
            self,
            cycle,
            topic=p.estop_topic,
            sources=(*own, *parse_estop_sources(p.estop_sources, beside=own, where=where)),
            feeds=estop_feeds(robot),
            enable_topic=p.enable_topic,
        )

    def start(self) -> None:
        """Start the command stream, once no other node commands the robot; it holds until the first chunk."""
        if self._claim is not None and self._outputs is not None:
            self._claim.take(self._outputs.other_publishers)
        if self.cycle is not None:
            self.cycle.begin()
        if self._readiness is not None:
            self._readiness.commanded(None)  # the arm may be anywhere by now
        if self._estop is not None:
            self._estop.activate()
        self._publishing.set()
        if self.p.lock_step:
            self._stream = SteppedStream(
                self, self._read_and_step, period_ns=self._period_ns, on_error=self._on_error
            )
        else:
            self._stream = CommandStream(
                self._step,
                period_ns=self._period_ns,
                on_error=self._on_error,
                prepare=self._read_states,
                turns=None if self.cycle is None else self.cycle.planning.turns,
            )
            if self.cycle is not None:
                self.cycle.planning.start()
        self._stream.start()
        if self._state is not None:
            self._state.active = True
            self._state.mark("activated", version=__version__, dry_run=self.p.dry_run)

    def stop(self) -> None:
        """Bring the arm to rest with limited jerk, then end the command stream."""
        stream, self._stream = self._stream, None
        if stream is None:
            self._let_go()
            return
        if self.cycle is not None:
            self.cycle.rest()
            if isinstance(stream, SteppedStream):
                stream.free()
            self.cycle.rested.wait(STOP_TIMEOUT_S)
        self._publishing.clear()
        if not stream.stop(timeout=STOP_TIMEOUT_S):
            self.get_logger().error(f"the command stream did not end within {STOP_TIMEOUT_S} s")
            return
        if self.cycle is not None:
            self.cycle.abandon("the node was deactivated")
            self.cycle.planning.stop()
        self._let_go()

    def _let_go(self) -> None:
        """Let another node command the robot."""
        if self._claim is not None:
            self._claim.release()
        if self._state is not None and self._state.active:
            self._state.active = False
            self._state.mark("deactivated")
            self._state.publish()

    def teardown(self) -> None:
        """Stop the remote checker, release the cycle."""
        if self._remote is not None:
            self._remote.close()
        self._remote = None
        self.cycle, self._outputs, self._diagnostics, self._watch = None, None, None, None
        self._readiness = self._states = None
        self._claim = self._state = self._estop = self._operator = None

    def _refused_input(self, what: str, group: str, refused: RefusedInput) -> None:
        if self.cycle is not None:
            self.cycle.reject(refusal_code(refused, what), refused.text, of=group)

    def _store_chunk(self, message: Any, arrival: Arrival) -> None:
        cycle = self.cycle
        if cycle is None:
            return
        chunk = message_to_chunk(message, sender=arrival.sender.hex())
        check_chunk_size(chunk, max_rows=self.p.max_chunk_rows, max_ns=seconds_to_ns(self.p.max_chunk_time))
        self._inputs.note("chunk")
        self._inputs.note("context", age=chunk.context_age_ns * 1e-9)
        if self._watch is not None:
            self._watch.note_chunk()
        cycle.offer_chunk(chunk, arrival_ns=self.clock.now_ns())

    def _read_states(self) -> None:
        if self._states is not None and self._publishing.is_set():
            self._states.read()

    def _read_and_step(self) -> None:
        self._read_states()
        self._step()

    def _step(self) -> None:
        cycle, outputs, state = self.cycle, self._outputs, self._state
        if cycle is None or outputs is None or state is None or not self._publishing.is_set():
            return
        now_ns = self.clock.now_ns()
        if self._watch is not None:
            self._watch.before_step()
            state.silent = self._watch.silent
        if self._estop is not None:
            self._estop.before_step()
        try:
            result = cycle.step(
                now_ns,
                None
                if state.silent
                else lambda position, velocity: outputs.send(position, velocity, cycle, now_ns),
            )
        except (
            Exception
        ) as error:  # whatever it was, the arm is stopped by the next step, which takes no chunk
            self._failures += 1
            if self._failures > MAX_FAILURES:
                raise
            self.get_logger().error(f"a command cycle failed:\n{traceback.format_exc()}")
            text = f"a command cycle failed: {type(error).__name__}: {error}"
            cycle.raise_cause(Finding(Verdict.STOP, "internal_error", text), once=True)
            return
        self._failures = 0
        if self._readiness is not None and not self.p.dry_run:
            self._readiness.commanded(None if state.silent else result.position)
        if result.position is None:
            outputs.interrupted()
        elif not state.silent:
            state.sent(now_ns, result.position)
        self._announce(result, cycle, now_ns)

    def _announce(self, result: CycleResult, cycle: SafetyCycle, now_ns: int) -> None:
        self._reason = result.reason
        logger = self.get_logger()
        for event in result.events:
            message = finding_to_event(
                event.finding,
                now_ns=now_ns,
                before=event.before,
                after=event.after,
                chunk_sequence=event.chunk_sequence,
                message_type=SafetyEvent,
            )
            self._event_topic.publish(message)
            if self._state is not None:
                self._state.note(event, now_ns)
            text = f"{event.before.name} -> {event.after.name}: {event.finding.code}: {event.finding.text}"
            if self._operator is not None:
                self._operator.note(event.finding)
            if event.after >= Ladder.HOLD and event.after is not event.before:
                logger.error(text)
            elif event.finding.verdict > Verdict.OK or event.after is not Ladder.NOMINAL:
                logger.warning(text)
            else:
                logger.info(text)

    def _on_error(self, error: Exception) -> None:
        self.get_logger().error(f"the command stream has ended: {type(error).__name__}: {error}")
        self._reason = f"internal error: {error}"
        if self.cycle is not None:
            self.cycle.raise_cause(
                Finding(Verdict.STOP, "internal_error", f"the command stream has ended: {error}")
            )
            self.cycle.abandon(f"the command stream has ended: {error}")

    def _report(self) -> None:
        cycle, stream, state, diagnostics = self.cycle, self._stream, self._state, self._diagnostics
        if cycle is None or diagnostics is None or state is None:
            return
        if self._watch is not None:
            self._watch.check()
        level, text = summary(
            cycle, active=stream is not None, reason=self._reason, audit_problem=state.audit_problem
        )
        values = values_of(
            cycle,
            stream,
            dry_run=self.p.dry_run,
            inputs=self.inputs.values(),
            audit=state.audit_problem or state.audit_file,
            estops=() if self._estop is None else self._estop.states(),
        )
        diagnostics.report(level, text, values)
