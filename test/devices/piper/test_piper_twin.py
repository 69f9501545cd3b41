# SPDX-License-Identifier: Apache-2.0
"""The twin of a Piper's driver by generation: names, speed, a lost CAN bus, enabling, the gate of agx_arm_ros."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from wam.core.errors import ConfigError
from wam.devices.loader import load_robot
from wam.devices.piper.generations import JOINTS, ZERO_BASED
from wam.devices.piper.simulated import arm as simulated
from wam.devices.piper.twin import PiperDriver
from wam.devices.simulated import Moment, SimulatedDevice
from wam.devices.twin import DriverAnswer, MeasuredJoints
from wam.robots.description import JointGroup
from wam.robots.joint_mapping import Conversion

REAL = load_robot("piper").group("left")
LEFT = replace(REAL, joints=tuple(replace(joint, conversion=Conversion()) for joint in REAL.joints))
HOME = np.array([joint.home for joint in LEFT.joints])
AWAY = np.array([0.4, 1.5, -1.5, 0.2, 0.1, 0.3, 0.02])


def made(generation: str) -> PiperDriver:
    return PiperDriver(of(generation))


def of(generation: str) -> JointGroup:
    twin = replace(LEFT.twin, generation=generation)
    if generation != "agx_arm_ros":
        return replace(LEFT, twin=twin)
    return replace(
        LEFT,
        twin=twin,
        state_topic="left/feedback/joint_states",
        command_topic="left/control/joint_states",
    )


def command(driver: PiperDriver, positions: np.ndarray, *, percent: float | None = 100.0) -> None:
    driver.command(
        LEFT.driver_names, positions.tolist(), [] if percent is None else [0.0] * 6 + [percent], []
    )


def at(positions: np.ndarray) -> MeasuredJoints:
    return MeasuredJoints(positions, np.zeros(7), np.zeros(7))


def ask(driver: PiperDriver, name: str, measured: np.ndarray = HOME) -> DriverAnswer:
    return driver.request(name, measured=measured)


@pytest.mark.parametrize(
    ("generation", "names", "percent"),
    [
        ("joint0", ZERO_BASED, 30),
        ("now_stamps", JOINTS, 30),
        ("can_stamps", JOINTS, 100),
        ("agx_arm_ros", JOINTS, 100),
        ("", JOINTS, 100),
    ],
)
def test_names_and_speed_are_those_of_the_generation(
    generation: str, names: tuple[str, ...], percent: float
) -> None:
    driver = made(generation)
    assert driver.feedback(at(HOME)).names == names
    command(driver, AWAY, percent=None)
    assert driver.advance(0.1)[0] == pytest.approx(0.3 * percent / 100)
    command(driver, AWAY)
    assert driver.advance(0.01)[0] == pytest.approx(0.3 * percent / 100 + 0.03), (
        "told, each runs at full speed"
    )


def test_the_first_releases_read_commands_by_place() -> None:
    driver = made("joint0")
    driver.command(ZERO_BASED, AWAY.tolist(), [0.0] * 6 + [100.0], [])
    np.testing.assert_allclose(driver.advance(60.0), AWAY)


@pytest.mark.parametrize("generation", ["joint0", "now_stamps", "can_stamps", "agx_arm_ros"])
def test_without_a_bus_the_arm_holds_its_last_target_and_the_driver_shows_what_it_did(
    generation: str,
) -> None:
    driver = made(generation)
    command(driver, AWAY)
    driver.advance(0.05)
    seen = driver.feedback(at(HOME))
    assert seen.float_stamp == (generation in ("can_stamps", "agx_arm_ros"))
    assert ask(driver, "can_loss").ok
    command(driver, HOME)
    driver.advance(0.1)
    early = driver.feedback(at(AWAY))
    driver.advance(60.0)
    late = driver.feedback(at(AWAY))
    np.testing.assert_allclose(driver.setpoint, AWAY, err_msg="commands do not arrive")
    assert early.positions == late.positions == seen.positions
    assert (early.published, late.published) == {
        "can_stamps": (True, False),
        "agx_arm_ros": (False, False),
    }.get(generation, (True, True))
    assert early.old_ns == (100_000_000 if generation == "can_stamps" else 0)
    assert not ask(driver, "enable").ok
    assert ask(driver, "can_return", AWAY).ok
    back = driver.feedback(at(AWAY))
    assert (back.published, back.old_ns, back.positions) == (True, 0, tuple(AWAY))
    command(driver, HOME)
    moved = driver.advance(60.0).tolist() == HOME.tolist()
    assert moved == (generation != "can_stamps"), "a node that has ended is there again, disabled"
    if not moved:
        assert ask(driver, "enable", AWAY).ok
        command(driver, HOME)
        assert driver.advance(60.0).tolist() == HOME.tolist()


def test_a_short_loss_does_not_end_the_node() -> None:
    driver = made("can_stamps")
    ask(driver, "can_loss")
    driver.advance(0.2)
    ask(driver, "can_return")
    command(driver, AWAY)
    np.testing.assert_allclose(driver.advance(60.0), AWAY)


@pytest.mark.parametrize(
    ("generation", "closes"), [("can_stamps", True), ("joint0", True), ("agx_arm_ros", False)]
)
def test_enabling_closes_the_gripper_of_piper_ros(generation: str, closes: bool) -> None:
    driver = made(generation)
    assert ask(driver, "enable").ok
    assert driver.advance(60.0)[6] == (0.0 if closes else HOME[6])


def test_a_closed_gate_lets_no_command_through() -> None:
    driver = made("agx_arm_ros")
    assert ask(driver, "close_gate").ok
    command(driver, AWAY)
    assert driver.advance(60.0).tolist() == HOME.tolist()
    assert ask(driver, "open_gate").ok
    driver.command(LEFT.driver_names[:6], AWAY[:6].tolist(), [], [])
    assert driver.advance(60.0).tolist() == [*AWAY[:6], HOME[6]], "a gripper that is not named stays"


@pytest.mark.parametrize("generation", ["agx_arm_ros", "can_stamp"])
def test_a_generation_of_another_family_is_refused(generation: str) -> None:
    with pytest.raises(ConfigError, match=r"no such generation of piper_ros.*joint0, now_stamps, can_stamps"):
        PiperDriver(replace(LEFT, twin=replace(LEFT.twin, generation=generation)))


class Asked(SimulatedDevice):
    """A device that notes what it is asked for."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def request(self, name: str) -> DriverAnswer:
        self.names.append(name)
        return DriverAnswer(True, name)


def test_a_simulated_successor_offers_its_services_and_its_status() -> None:
    offered = simulated(of("agx_arm_ros"))
    assert {one.name for one in offered.services} == {
        "left/enable_agx_arm",
        "left/control_enable",
        "~/left/can_loss",
        "~/left/can_return",
    }
    asked = Asked()
    for service in offered.services:
        service.answer(SimpleNamespace(data=True), SimpleNamespace(), asked)
    assert asked.names == ["enable", "open_gate", "can_loss", "can_return"]
    (status,) = offered.statuses
    driver = made("agx_arm_ros")
    message = SimpleNamespace(joint_angle_limit=[], communication_status_joint=[])
    status.fill(message, Moment(LEFT, driver.modes, driver.feedback(at(np.array([9.0, *HOME[1:]])))))
    assert message.joint_angle_limit == [True] + [False] * 5
    assert (message.ctrl_mode, message.arm_status) == (0, 0)
