# SPDX-License-Identifier: Apache-2.0
"""The simulated Piper arms: servos, gripper, contacts, objects, and the same trajectory from the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wam.core.errors import ConfigError
from wam.devices.loader import load_robot
from wam.devices.piper.twin import PiperDriver
from wam.robots.kinematics import forward_kinematics
from wam.sim.scene import Placement, Region, Scene, SceneObject, Shape, tabletop
from wam.sim.world import SimWorld, WorldDiverged

pytestmark = pytest.mark.sim

PIPER = load_robot("piper")
LEFT = PIPER.group("left")
HOME = np.array([joint.home for joint in LEFT.joints])


def run(world: SimWorld, seconds: float, driver: PiperDriver | None = None) -> None:
    for _ in range(round(seconds / world.timestep)):
        if driver is not None:
            world.set_targets("left", driver.advance(world.timestep))
        world.step()


def test_the_arms_stay_at_home_when_nobody_commands_them() -> None:
    world = SimWorld(PIPER)
    run(world, 0.5)
    for group in ("left", "right"):
        np.testing.assert_allclose(world.measured(group).positions, HOME, atol=1e-3)


def test_the_model_stands_where_the_kinematics_say() -> None:
    world = SimWorld(PIPER)
    pose = forward_kinematics(PIPER, "left_tcp", np.tile(HOME, 2), base="world")
    np.testing.assert_allclose(world.body_position("left_tcp"), pose[:3, 3], atol=1e-6)


def test_a_target_is_reached_by_its_arm_alone() -> None:
    world, target = SimWorld(PIPER), HOME + np.array([0.3, 0.2, -0.2, 0.4, -0.5, 0.6, 0.02])
    world.set_targets("left", target)
    run(world, 1.5)
    np.testing.assert_allclose(world.measured("left").positions, target, atol=2e-3)
    np.testing.assert_allclose(world.measured("right").positions, HOME, atol=2e-3)


def test_a_sine_at_the_operating_speed_is_followed_within_a_tenth_of_a_radian() -> None:
    world, driver = SimWorld(PIPER), PiperDriver(LEFT)
    amplitude, errors = 0.4, []
    for i in range(1200):
        wanted = HOME.copy()
        wanted[1] += amplitude * np.sin(1.5 / amplitude * i * world.timestep)
        driver.command(LEFT.driver_names, wanted.tolist(), [], [])
        world.set_targets("left", driver.advance(world.timestep))
        world.step()
        errors.append(np.abs(world.measured("left").positions - wanted).max())
    # The first quarter second is the start from rest.
    assert 0.01 < max(errors[125:]) < 0.1


def test_the_gripper_reads_the_opening_of_both_fingers() -> None:
    world, target = SimWorld(PIPER), HOME.copy()
    target[6] = 0.02
    world.set_targets("left", target)
    run(world, 1.0)
    assert world.measured("left").positions[6] == pytest.approx(0.02, abs=1e-3)
    fingers = [world.body_position(f"left_gripper_link{i}") for i in (1, 2)]
    assert np.linalg.norm(fingers[0] - fingers[1]) == pytest.approx(0.02, abs=1e-3)


def test_an_arm_that_is_off_falls_and_the_other_one_stays() -> None:
    world = SimWorld(PIPER)
    before = world.body_position("left_tcp")[2]
    world.set_enabled("left", False)
    run(world, 1.0)
    assert world.body_position("left_tcp")[2] < before - 0.1
    np.testing.assert_allclose(world.measured("right").positions, HOME, atol=1e-3)


def test_a_gripper_driven_into_the_table_stops_at_it() -> None:
    world, target = SimWorld(PIPER), HOME.copy()
    target[1] = 2.4
    world.set_targets("left", target)
    run(world, 1.5)
    assert world.body_position("left_tcp")[2] > -0.02
    assert world.measured("left").positions[1] < 2.3


def test_a_cube_between_the_fingers_can_be_lifted() -> None:
    cube = SceneObject("cube", Shape.BOX, (0.04, 0.04, 0.04), (1, 0, 0, 1), 0.05)
    world = SimWorld(PIPER, scene=FixedScene(cube, Placement(0.32, 0.3, 0.0, 0.0)))
    driver = PiperDriver(LEFT)
    above, at = [0, 1.6746, -1.4582, 0, 1.22, 0], [0, 1.7765, -1.1337, 0, 1.0153, 0]
    for arm, opening in ((above, 0.07), (at, 0.07), (at, 0.0), (above, 0.0)):
        driver.command(LEFT.driver_names, [*arm, opening], [], [])
        world.set_force("left", driver.force_fractions)
        run(world, 1.2, driver)
    assert world.object_positions()["cube"][2] > 0.1
    assert world.measured("left").positions[6] == pytest.approx(0.038, abs=0.003)


def test_objects_lie_on_the_table_apart_and_within_their_region() -> None:
    scene = tabletop()
    for seed in range(20):
        places = scene.place(seed)
        for i, (item, place) in enumerate(zip(scene.objects, places, strict=True)):
            assert scene.region.x_min <= place.x - item.footprint
            assert place.y + item.footprint <= scene.region.y_max
            for other, there in list(zip(scene.objects, places, strict=True))[:i]:
                assert np.hypot(place.x - there.x, place.y - there.y) >= item.footprint + other.footprint


def test_objects_do_not_jump_when_the_world_starts() -> None:
    world = SimWorld(PIPER, seed=4)
    before = world.object_positions()
    run(world, 0.5)
    for name, position in world.object_positions().items():
        np.testing.assert_allclose(position, before[name], atol=2e-3)


def test_the_seed_decides_where_objects_lie() -> None:
    first, again, other = (SimWorld(PIPER, seed=seed).object_positions()["red_cube"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_same_seed_and_commands_give_a_bit_identical_trajectory() -> None:
    def trajectory() -> Iterator[bytes]:
        world, driver = SimWorld(PIPER, seed=7), PiperDriver(LEFT)
        driver.command(LEFT.driver_names, [0.4, 1.9, -1.3, 0.2, 0.9, 0.1, 0.0], [], [])
        for i in range(600):
            world.set_targets("left", driver.advance(world.timestep))
            world.step()
            yield world.snapshot(i).qpos.tobytes()

    assert list(trajectory()) == list(trajectory())


def test_a_reset_world_is_as_new() -> None:
    world = SimWorld(PIPER, seed=3)
    fresh = world.snapshot(0).qpos
    world.set_enabled("right", False)
    world.set_targets("left", HOME + 0.2)
    run(world, 0.2)
    world.reset(3)
    np.testing.assert_array_equal(world.snapshot(0).qpos, fresh)
    run(world, 0.2)
    np.testing.assert_allclose(world.measured("right").positions, HOME, atol=1e-3)


def test_a_snapshot_does_not_change_with_the_world() -> None:
    world = SimWorld(PIPER)
    snapshot = world.snapshot(5)
    before = snapshot.qpos.copy()
    world.set_targets("left", HOME + 0.2)
    run(world, 0.1)
    np.testing.assert_array_equal(snapshot.qpos, before)
    assert snapshot.stamp_ns == 5
    with pytest.raises(ValueError, match="read-only"):
        snapshot.qpos[0] = 1.0


def test_a_world_that_diverges_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo resets such a world by itself, and an arm that jumps home would look like a working one."""
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log into the working directory
    world = SimWorld(PIPER)
    run(world, 0.01)
    world.model.opt.gravity[2] = -1e12
    with pytest.raises(
        WorldDiverged, match=r"world of piper diverged \(mjWARN_BADQ.* in joint \w+\) near t = 0.01"
    ):
        run(world, 0.1)


def test_servos_that_know_the_speed_wanted_do_not_lag_by_their_damping() -> None:
    """Damped against all motion, the UR's servos lag: with the first gains 0.2 s, so that its controller gave up."""
    robot = load_robot("ur5e_inspire")
    lags = {}
    for aware in (False, True):
        world = SimWorld(robot)
        home = np.array([joint.home for joint in robot.group("arm").joints])
        velocity = np.zeros(6)
        for i in range(300):
            # A ramp from rest to 1 rad/s within 0.25 s.
            speed = min(1.0, 4.0 * i * world.timestep)
            velocity[0] = speed
            home[0] += speed * world.timestep
            world.set_targets("arm", home, velocity if aware else None)
            world.step()
        lags[aware] = home[0] - world.measured("arm").positions[0]
    assert lags[False] > 0.05
    assert abs(lags[True]) < 0.03


def test_targets_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="targets of left are not finite"):
        SimWorld(PIPER).set_targets("left", np.full(7, np.nan))


def test_a_robot_without_a_model_cannot_be_simulated() -> None:
    with pytest.raises(ConfigError, match="g1_inspire has no model"):
        SimWorld(load_robot("g1_inspire"))


def test_a_joint_without_servo_cannot_be_simulated() -> None:
    joints = (replace(LEFT.joints[0], servo=None), *LEFT.joints[1:])
    with pytest.raises(ConfigError, match="joint left_joint1 cannot be simulated"):
        SimWorld(replace(PIPER, groups=(replace(LEFT, joints=joints),)))


def test_a_camera_frame_that_the_model_lacks_is_named() -> None:
    camera = replace(PIPER.cameras[0], frame_id="nowhere")
    with pytest.raises(ConfigError, match="frame_id of camera head is no link of the URDF: got 'nowhere'"):
        SimWorld(replace(PIPER, cameras=(camera,)))


def test_links_of_the_srdf_that_the_model_lacks_are_named_with_what_was_meant(tmp_path: Path) -> None:
    """Both names in one text were compared with the known ones: the guess was none, or another link's name."""
    srdf = tmp_path / "robot.srdf"
    srdf.write_text('<robot name="r"><disable_collisions link1="left_lnk6" link2="nowhere_at_all"/></robot>')
    with pytest.raises(ConfigError, match="names a link that the URDF does not have") as caught:
        SimWorld(replace(PIPER, srdf=srdf))
    assert "got ['left_lnk6', 'nowhere_at_all'], did you mean 'left_link6'?" in str(caught.value)


def test_a_region_without_room_is_refused() -> None:
    item = tabletop().objects[3]
    small = Scene((item, replace(item, name="second")), Region(0, 0.2, 0, 0.2, 0))
    with pytest.raises(ValueError, match="has no space for 'second' beside 1 objects"):
        small.place(0)


class FixedScene(Scene):
    """One object at one place."""

    def __init__(self, item: SceneObject, placement: Placement) -> None:
        super().__init__((item,), Region(0, 1, -1, 1, 0))
        object.__setattr__(self, "placement", placement)

    def place(self, seed: int) -> tuple[Placement, ...]:
        return (self.placement,)
