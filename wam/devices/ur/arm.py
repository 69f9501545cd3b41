# SPDX-License-Identifier: Apache-2.0
"""UR5e behind ur_robot_driver: modes, the running program, speed scaling, and the dashboard's services."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from wam.devices.state import DriverState, Readiness, Step, person, service

JOINTS = (
    "shoulder_pan_joint",
    "shoulder_lift_joint",
    "elbow_joint",
    "wrist_1_joint",
    "wrist_2_joint",
    "wrist_3_joint",
)
"""Order of the kinematic chain. Messages come in another order (often elbow first) and are read by name."""
SCALING_TOPIC = "speed_scaling_state_broadcaster/speed_scaling"
PROGRAM_TOPIC = "io_and_status_controller/robot_program_running"
ROBOT_MODE_TOPIC = "io_and_status_controller/robot_mode"
SAFETY_MODE_TOPIC = "io_and_status_controller/safety_mode"
PROTECTIVE_STOP_WAIT_S = 5.0
"""The controller refuses to unlock a protective stop earlier than this [s]."""


class UrMode(enum.IntEnum):
    """ur_dashboard_msgs/RobotMode."""

    NO_CONTROLLER = -1
    DISCONNECTED = 0
    CONFIRM_SAFETY = 1
    BOOTING = 2
    POWER_OFF = 3
    POWER_ON = 4
    IDLE = 5
    BACKDRIVE = 6
    RUNNING = 7
    UPDATING_FIRMWARE = 8


class SafetyMode(enum.IntEnum):
    """ur_dashboard_msgs/SafetyMode."""

    NORMAL = 1
    REDUCED = 2
    PROTECTIVE_STOP = 3
    RECOVERY = 4
    SAFEGUARD_STOP = 5
    SYSTEM_EMERGENCY_STOP = 6
    ROBOT_EMERGENCY_STOP = 7
    VIOLATION = 8
    FAULT = 9
    VALIDATE_JOINT_ID = 10
    UNDEFINED = 11
    AUTOMATIC_MODE_SAFEGUARD_STOP = 12
    SYSTEM_THREE_POSITION_ENABLING_STOP = 13


class ScalingRange(enum.Enum):
    """What the speed-scaling topic of this driver version counts in."""

    UNKNOWN = "unknown"
    FRACTION = "fraction"  # 0..1
    PERCENT = "percent"  # 0..100


class SpeedScaling:
    """Finds out whether speed scaling comes as 0..1 or 0..100, and returns it as 0..1.

    One value above 1.5 proves percent. Values of 0.05..1.05 for half a second prove a fraction: as percent they would
    be a robot slower than one percent, below the slider's end. Until one is proven nothing is returned and the arm
    waits: a guess is wrong by a factor of a hundred. A proven fraction is given up when a larger value comes after all.
    """

    PROOF = 50
    """Samples in a row (half a second at 100 Hz)."""

    def __init__(self) -> None:
        self.range = ScalingRange.UNKNOWN
        self._row = 0

    def read(self, value: float) -> float | None:
        """Return the scaling 0..1 for a message's value, or None while the range is unknown or the value is none."""
        if not math.isfinite(value) or value < 0.0 or value > 105.0:
            self._row = 0
            return None
        if value > 1.5:
            self.range = ScalingRange.PERCENT
        elif self.range is ScalingRange.UNKNOWN:
            self._row = self._row + 1 if 0.05 <= value <= 1.05 else 0
            if self._row >= self.PROOF:
                self.range = ScalingRange.FRACTION
        if self.range is ScalingRange.UNKNOWN:
            # Zero is zero in both.
            return 0.0 if value == 0.0 else None
        return min(value / 100.0 if self.range is ScalingRange.PERCENT else value, 1.0)


@dataclass(frozen=True, slots=True)
class UrSample:
    """What is known of the robot; None where nothing has arrived, or the message package is not installed.

    Attributes:
        joint_states: whether joint states arrive.
        robot_mode: see `UrMode`.
        safety_mode: see `SafetyMode`.
        program_running: whether the External Control program runs.
        scaling: speed scaling 0..1.
        lacking: message packages without which a mode cannot be read; "" for none.
    """

    joint_states: bool
    robot_mode: int | None = None
    safety_mode: int | None = None
    program_running: bool | None = None
    scaling: float | None = None
    lacking: str = ""

    @property
    def unseen(self) -> str:
        """Which of modes and program cannot be seen, and why; "" where all can."""
        modes = {ROBOT_MODE_TOPIC: self.robot_mode, SAFETY_MODE_TOPIC: self.safety_mode}
        hidden = [topic for topic, value in modes.items() if value is None]
        told = []
        if hidden and self.lacking:
            told.append(f"{', '.join(hidden)} cannot be read: {self.lacking} is not installed here")
            hidden = []
        hidden += [PROGRAM_TOPIC] if self.program_running is None else []
        if hidden:
            told.append(f"nothing arrives on {', '.join(hidden)}")
        return "; ".join(told)


def _dashboard(name: str, text: str, *, moves: bool = False, by_hand: str = "") -> Step:
    return service(f"dashboard_client/{name}", f"{text} (std_srvs/Trigger)", moves=moves, by_hand=by_hand)


_RESEED = service(
    "wam_safety/clear_fault", "clear the latched stop; wam_safety/resume then lets the arm move", moves=True
)
# Resuming a program would go on with the motion from before the stop.
_RESTART = (
    _dashboard("stop", "stop the program, so that the old motion is not resumed"),
    _dashboard("play", "start External Control anew"),
    _RESEED,
)
_POWER = (
    _dashboard("power_on", "switch the arm on"),
    _dashboard("brake_release", "release the brakes", moves=True),
    _dashboard("play", "start External Control"),
)
_LOOK = person("look at the pendant, and clear what stopped the robot")
_RESEND = "io_and_status_controller/resend_robot_program"
_UNSEEN_STOP = (
    "look at the pendant, which shows what this computer cannot see. After a protective stop wait "
    f"{PROTECTIVE_STOP_WAIT_S:g} s, then call dashboard_client/close_safety_popup and "
    "dashboard_client/unlock_protective_stop; after an emergency stop release it, then switch the arm on and release "
    "its brakes at the pendant"
)
# A program that a safety stop has paused would go on with its old motion: it is stopped before it is played.
_BLIND_RESTART = (
    person(_UNSEEN_STOP),
    _dashboard(
        "stop",
        "stop the program, so that the old motion is not resumed",
        by_hand="stop the program at the pendant; in headless mode call " + _RESEND,
    ),
    _dashboard("play", "start External Control anew"),
    service(
        _RESEND,
        "in headless mode, send the program again instead",
        instead=True,
        by_hand=f"{_UNSEEN_STOP}; then recover again",
    ),
)

_SAFETY_STEPS: dict[SafetyMode, tuple[Step, ...]] = {
    SafetyMode.PROTECTIVE_STOP: (
        _LOOK,
        person(f"wait {PROTECTIVE_STOP_WAIT_S:g} s: the robot refuses to unlock earlier"),
        _dashboard("close_safety_popup", "close the message"),
        _dashboard("unlock_protective_stop", "unlock"),
        *_RESTART,
    ),
    SafetyMode.RECOVERY: (
        person("move the arm back into its limits in recovery mode", moves=True),
        *_RESTART,
    ),
    SafetyMode.SAFEGUARD_STOP: (person("close the safeguard (gate, scanner) and reset it"), *_RESTART),
    SafetyMode.AUTOMATIC_MODE_SAFEGUARD_STOP: (person("close the safeguard and reset it"), *_RESTART),
    SafetyMode.SYSTEM_THREE_POSITION_ENABLING_STOP: (
        person("hold the enabling device in its middle position"),
        *_RESTART,
    ),
    SafetyMode.SYSTEM_EMERGENCY_STOP: (
        _LOOK,
        person("release the emergency stop of the cell"),
        *_POWER,
        _RESEED,
    ),
    SafetyMode.ROBOT_EMERGENCY_STOP: (
        _LOOK,
        person("release the emergency stop of the pendant"),
        *_POWER,
        _RESEED,
    ),
    SafetyMode.VIOLATION: (
        _LOOK,
        _dashboard("close_safety_popup", "close the message"),
        _dashboard("restart_safety", "restart the safety system"),
        *_POWER,
        _RESEED,
    ),
    SafetyMode.FAULT: (_LOOK, _dashboard("restart_safety", "restart the safety system"), *_POWER, _RESEED),
    SafetyMode.VALIDATE_JOINT_ID: (person("confirm the joints on the pendant (a joint was exchanged)"),),
    SafetyMode.UNDEFINED: (_LOOK,),
}


def assess(sample: UrSample) -> DriverState:
    """Return the state of the robot: joint states first, then safety, power, program and speed scaling."""
    if not sample.joint_states:
        return DriverState(
            Readiness.ABSENT,
            "driver_silent",
            "no joint states arrive",
            (
                person("switch the control box on, and start ur_robot_driver with robot_ip"),
                person("compare namespace and tf_prefix with the robot file"),
            ),
        )
    if sample.safety_mode is not None and sample.safety_mode not in (SafetyMode.NORMAL, SafetyMode.REDUCED):
        try:
            safety = SafetyMode(sample.safety_mode)
        except ValueError:
            safety = SafetyMode.UNDEFINED
        text = f"safety mode {safety.name.lower().replace('_', ' ')} ({sample.safety_mode})"
        return DriverState(Readiness.BLOCKED, safety.name.lower(), text, _SAFETY_STEPS[safety])
    if sample.robot_mode is not None and sample.robot_mode != UrMode.RUNNING:
        return _power_state(sample.robot_mode)
    if sample.program_running is False:
        text = "External Control does not run: the driver's controllers are deactivated"
        if sample.safety_mode is None:
            return DriverState(
                Readiness.BLOCKED,
                "program_not_running",
                f"{text}; a safety stop may be why",
                _BLIND_RESTART,
                sample.unseen,
            )
        return DriverState(
            Readiness.WAITING,
            "program_not_running",
            text,
            (
                _dashboard("play", "start the program on the pendant"),
                service(_RESEND, "in headless mode, send the program again instead", instead=True),
            ),
        )
    if sample.scaling is not None and sample.scaling <= 0.01:
        return DriverState(
            Readiness.WAITING,
            "paused",
            f"speed scaling is {sample.scaling:.3f}: the robot stands, and chunks are held at their row",
            (
                *((person(_UNSEEN_STOP),) if sample.safety_mode is None else ()),
                person(
                    "resume the program, or raise the speed slider of the pendant; after a protective stop, stop the "
                    "program and play it again instead: resumed, it goes on with the old motion",
                    moves=True,
                ),
            ),
            sample.unseen,
        )
    if sample.scaling is None:
        return DriverState(
            Readiness.WAITING,
            "scaling_unknown",
            f"{SCALING_TOPIC} has not shown yet whether it counts 0..1 or 0..100",
            (person("wait half a second with the program running; with mock hardware there is none"),),
            sample.unseen,
        )
    if sample.unseen:
        return DriverState(
            Readiness.DEGRADED,
            "modes_unseen",
            f"speed scaling is {sample.scaling:.2f}: moves are possible, but {sample.unseen}",
            (
                person(_UNSEEN_STOP),
                person("install ur_dashboard_msgs in this environment; use io_and_status_controller"),
            ),
            sample.unseen,
        )
    if sample.safety_mode == SafetyMode.REDUCED:
        return DriverState(
            Readiness.DEGRADED,
            "reduced",
            f"reduced mode, speed scaling {sample.scaling:.2f}: slower than asked",
        )
    return DriverState(Readiness.READY, "running", f"running, speed scaling {sample.scaling:.2f}")


def _power_state(value: int) -> DriverState:
    try:
        mode = UrMode(value)
    except ValueError:
        mode = UrMode.NO_CONTROLLER
    text = f"robot mode {mode.name.lower().replace('_', ' ')} ({value})"
    if mode is UrMode.POWER_OFF:
        return DriverState(Readiness.WAITING, "power_off", text, (person("keep clear of the arm"), *_POWER))
    if mode in (UrMode.IDLE, UrMode.POWER_ON):
        return DriverState(
            Readiness.WAITING, mode.name.lower(), text, (person("keep clear of the arm"), *_POWER[1:])
        )
    if mode is UrMode.BACKDRIVE:
        return DriverState(
            Readiness.BLOCKED, "backdrive", text, (person("end back-driving on the pendant"), *_POWER[1:])
        )
    if mode is UrMode.CONFIRM_SAFETY:
        return DriverState(
            Readiness.BLOCKED,
            "confirm_safety",
            text,
            (person("confirm the safety set-up on the pendant"), *_POWER),
        )
    if mode in (UrMode.BOOTING, UrMode.UPDATING_FIRMWARE):
        return DriverState(Readiness.WAITING, mode.name.lower(), text)
    return DriverState(
        Readiness.ABSENT, mode.name.lower(), text, (person("switch the control box on"), *_POWER)
    )
