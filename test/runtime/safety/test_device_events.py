# SPDX-License-Identifier: Apache-2.0
"""The table robot x event: what is commanded when a device stops following and returns; what moves before the go.

With WAM_DEVICE_TABLE=FILE the table is written there as Markdown (`make device-events`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device_bed import DeviceBed
from device_events import CLEAR, RESUME, DeviceEvent, EventOutcome, differences, let_happen, write_page

from wam.devices.franka.manager import HardwareState
from wam.devices.franka.recovery import BROADCASTERS, HARDWARE
from wam.devices.franka.twin import LOSE_LINK, USER_RELEASE, USER_STOP, FrankaDriver
from wam.devices.loader import load_robot
from wam.devices.twin import DriverAnswer
from wam.devices.ur.twin import LOSE, REGAIN
from wam.robots.description import Distribution, JointGroup, RobotDescription
from wam.robots.joint_mapping import Conversion

HUMBLE, JAZZY = Distribution.HUMBLE, Distribution.JAZZY
STEP_S = 0.15
"""Time before each step of a Franka's recovery [s]."""
PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "device-events.md"


def services(group: str, off: str, seconds: float, *on: str, jog: float = 0.0) -> Callable[[DeviceBed], None]:
    """Call a service of a driver, move the joints by hand meanwhile, and call others after a time [s], [rad]."""

    def happen(bed: DeviceBed) -> None:
        device = bed.devices[group]
        assert device.ask(off).ok
        bed.run(seconds / 2)
        device.aside[:] = jog * bed.arms[device.columns]
        bed.run(seconds / 2)
        for name in on:
            assert device.ask(name).ok

    return happen


def recovered(event: str, seconds: float, *, jog: float = 0.0) -> Callable[[DeviceBed], None]:
    """Let an event end a Franka's control, and bring its hardware and controllers back step by step after a time [s].

    Without an event the hardware is set to inactive by hand.
    """
    arm = "fr3_arm_controller"
    back: tuple[Callable[[FrankaDriver], DriverAnswer | None], ...] = (
        lambda driver: driver.manager.set_hardware(HARDWARE, HardwareState.INACTIVE),
        lambda driver: driver.switch((), [arm]),
        lambda driver: driver.manager.set_hardware(HARDWARE, HardwareState.ACTIVE),
        lambda driver: driver.switch([*BROADCASTERS, arm], ()),
    )

    def happen(bed: DeviceBed) -> None:
        device = bed.devices["arm"]
        if event:
            assert device.ask(event).ok
        else:
            assert device.call(back[0]).ok
        bed.run(seconds / 2)
        device.aside[:] = jog
        bed.run(seconds / 2)
        assert event != USER_STOP or device.ask(USER_RELEASE).ok
        assert device.ask("error_recovery").ok
        for step in back:
            bed.run(STEP_S)
            assert device.call(step).ok

    return happen


def jogged(seconds: float, by: float) -> Callable[[DeviceBed], None]:
    """Stop the program of a UR, jog all joints, and play it."""

    def happen(bed: DeviceBed) -> None:
        device = bed.devices["arm"]
        assert device.ask("stop").ok
        bed.run(seconds / 2)
        assert device.driver.jog(np.full(6, by)).ok
        bed.run(seconds / 2)
        assert device.ask("play").ok

    return happen


def slid(share: float, seconds: float) -> Callable[[DeviceBed], None]:
    """Move the speed slider of a UR there and back."""

    def happen(bed: DeviceBed) -> None:
        assert bed.devices["arm"].driver.set_slider(share).ok
        bed.run(seconds)
        assert bed.devices["arm"].driver.set_slider(1.0).ok

    return happen


UNLOCKED = ("unlock_protective_stop", "stop", "play")
UR = (
    *(
        DeviceEvent("ur5e_inspire", name, happen)
        for name, happen in (
            ("the program is stopped, and played after 1 s", services("arm", "stop", 1.0, "play")),
            ("stopped, jogged by 0.1 rad, played", jogged(1.0, 0.1)),
            ("stopped for 3 s, jogged by -0.2 rad, played", jogged(3.0, -0.2)),
            ("the reverse interface is lost for 0.1 s", services("arm", LOSE, 0.1, REGAIN)),
            ("the reverse interface is lost for 0.3 s", services("arm", LOSE, 0.3, REGAIN)),
            ("the reverse interface is lost for 1 s", services("arm", LOSE, 1.0, REGAIN)),
            ("the reverse interface is lost for 3 s", services("arm", LOSE, 3.0, REGAIN)),
            ("a protective stop, unlocked, stopped and played", services("arm", "fault", 5.1, *UNLOCKED)),
        )
    ),
    *(
        DeviceEvent("ur5e_inspire", name, happen, codes=(), again="nothing")
        for name, happen in (
            ("paused at the pendant for 0.3 s", services("arm", "pause", 0.3, "play")),
            ("paused at the pendant for 3 s", services("arm", "pause", 3.0, "play")),
            ("the speed slider at 10 % for 2 s", slid(0.1, 2.0)),
        )
    ),
)
AT_ONCE = DeviceEvent(
    "franka",
    "a reflex, recovered at once",
    recovered("fault", 0.0),
    codes=("joint_state_timeout",),  # silent for less than the second after which a device is not ready
    distribution=JAZZY,
)
FRANKA = tuple(
    DeviceEvent("franka", name, happen, distribution=distribution)
    for distribution, name, happen in (
        (JAZZY, "a reflex, recovered after 1 s", recovered("fault", 1.0)),
        (JAZZY, "a reflex, led by 0.1 rad, recovered", recovered("fault", 1.0, jog=0.1)),
        (JAZZY, "a reflex of 3 s, led by -0.2 rad", recovered("fault", 3.0, jog=-0.2)),
        (HUMBLE, "Humble: a reflex, recovered after 1 s", recovered("fault", 1.0)),
        (HUMBLE, "Humble: a reflex, led by 0.1 rad, recovered", recovered("fault", 1.0, jog=0.1)),
        (HUMBLE, "Humble: a reflex, recovered at once", recovered("fault", 0.0)),
        (JAZZY, "the user stop, released after 1 s, recovered", recovered(USER_STOP, 1.0)),
        (HUMBLE, "Humble: the user stop, released after 1 s, recovered", recovered(USER_STOP, 1.0)),
        (JAZZY, "a communication violation, recovered after 1 s", recovered(LOSE_LINK, 1.0)),
        (HUMBLE, "Humble: a communication violation, recovered", recovered(LOSE_LINK, 1.0)),
        (JAZZY, "the hardware inactive for 1 s and back", recovered("", 1.0)),
        (HUMBLE, "Humble: the hardware inactive for 1 s and back", recovered("", 1.0)),
    )
)


def driven_by(generation: str) -> Callable[[RobotDescription], RobotDescription]:
    """Return what gives both arms this generation of driver."""

    def change(robot: RobotDescription) -> RobotDescription:
        return replace(robot, groups=tuple(_driven_by(generation, group) for group in robot.groups))

    return change


def _driven_by(generation: str, group: JointGroup) -> JointGroup:
    twin = replace(group.twin, generation=generation)
    if generation != AGX:
        return replace(group, twin=twin)
    exact = tuple(replace(joint, conversion=Conversion()) for joint in group.joints)
    topics = {"state_topic": f"{group.name}/feedback/joint_states"}
    return replace(
        group, twin=twin, joints=exact, command_topic=f"{group.name}/control/joint_states", **topics
    )


AGX = "agx_arm_ros"
LOST, BACK = "can_loss", "can_return"
PIPER = tuple(
    DeviceEvent("piper", f"{generation}: {name}", happen, codes, again, change=driven_by(generation))
    for generation, name, happen, codes, again in (
        *(
            (old, name, services("left", LOST, seconds, BACK), ("device_not_ready",), again)
            for old, name, seconds, again in (
                ("joint0", "CAN lost for 1 s", 1.0, f"{CLEAR}, {RESUME}"),
                # The bus is back before the commands have come to rest: the arm is seen to follow them.
                ("joint0", "CAN lost for 0.3 s", 0.3, RESUME),
                ("now_stamps", "CAN lost for 1 s", 1.0, f"{CLEAR}, {RESUME}"),
            )
        ),
        *(
            ("can_stamps", name, happen, ("device_not_ready",), RESUME)
            for name, happen in (
                (
                    "CAN lost for 1 s, the node ends and is started again, enabled",
                    services("left", LOST, 1.0, BACK, "enable"),
                ),
                ("CAN lost for 0.2 s", services("left", LOST, 0.2, BACK)),
                ("disabled, enabled after 1 s", services("left", "disable", 1.0, "enable")),
                ("disabled, sunk by 0.1 rad, enabled", services("left", "disable", 1.0, "enable", jog=0.1)),
            )
        ),
        *(
            (AGX, name, happen, ("device_not_ready",), again)
            for name, happen, again in (
                ("CAN lost for 1 s", services("left", LOST, 1.0, BACK), RESUME),
                ("CAN lost for 0.2 s", services("left", LOST, 0.2, BACK), RESUME),
                (
                    "disabled, enabled after 1 s",
                    services("left", "disable", 1.0, "enable"),
                    f"{CLEAR}, {RESUME}",
                ),
                (
                    "the gate closed, opened after 1 s",
                    services("left", "close_gate", 1.0, "open_gate"),
                    f"{CLEAR}, {RESUME}",
                ),
            )
        ),
    )
)
EVENTS = (*UR, AT_ONCE, *FRANKA, *PIPER)


@pytest.fixture(scope="module")
def outcomes() -> Iterator[list[tuple[DeviceEvent, EventOutcome]]]:
    """The outcomes of this run; written to the file that WAM_DEVICE_TABLE names, if any."""
    found: list[tuple[DeviceEvent, EventOutcome]] = []
    yield found
    file = os.environ.get("WAM_DEVICE_TABLE")
    if file:
        write_page(Path(file), found)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: f"{event.robot}: {event.name}")
def test_commands_keep_their_limits_and_nothing_moves_before_the_go(
    outcomes: list[tuple[DeviceEvent, EventOutcome]], event: DeviceEvent
) -> None:
    """The arm resumed by itself, in a step within 40 ms: peak 1.7 to 4.2 rad/s (UR), 2.0 to 2.4 rad/s (Franka)."""
    outcome = let_happen(event)
    outcomes.append((event, outcome))
    assert differences(event, outcome) == []


def test_an_arm_that_sinks_under_a_driver_that_was_started_again_is_not_drawn_back() -> None:
    """Its commands hold it where it was first seen, and are heard once it is enabled: a step of up to 0.2 rad."""
    bed = DeviceBed(driven_by("can_stamps")(load_robot("piper")))
    bed.start()
    left = bed.devices["left"]
    assert left.ask(LOST).ok
    bed.run(1.0)
    assert left.ask(BACK).ok
    assert left.ask("disable").ok
    bed.run(1.0)
    for _ in range(20):
        left.aside -= 0.009 * bed.arms[left.columns]
        bed.run(0.05)
    sunk = left.measured[:6].copy()
    assert left.ask("enable").ok
    bed.run(1.0)
    assert np.abs(left.measured[:6] - sunk).max() < 0.05
    assert bed.cycle.ladder.code == "awaiting_resume"


def test_the_page_has_a_row_for_each_event() -> None:
    """`make device-events` writes it anew."""
    if os.environ.get("WAM_DEVICE_TABLE"):
        pytest.skip("the page is being written")
    rows = [
        line.split(" | ")[:2] for line in PAGE.read_text(encoding="utf-8").splitlines() if "rad/s |" in line
    ]
    assert rows == [[f"| {event.robot}", event.name] for event in EVENTS]
