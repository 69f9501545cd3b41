# SPDX-License-Identifier: Apache-2.0
"""Recoveries carried out over real services and actions; types of common packages stand in for the vendors'."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

from franka_manager import TwinCaller
from franka_manager import franka as moving_franka
from waiting import wait_until

from wam.devices.franka import arm as franka
from wam.devices.franka.recovery import HARDWARE, recovery_steps
from wam.devices.franka.twin import FrankaDriver
from wam.devices.piper import arm as piper
from wam.devices.piper.generations import AGX_ARM_ROS, JOINTS, PIPER_ROS
from wam.devices.state import Step
from wam.devices.ur import arm as ur
from wam.robots.description import Distribution
from wam.robots.loader import find_robot

pytestmark = pytest.mark.ros
PIPER_NAMES = list(JOINTS)
UR_RUNS = ur.assess(ur.UrSample(True, 7, 1, True, 1.0))


class Vendor:
    """Offers the services and actions that a recovery calls, and remembers the calls in order."""

    def __init__(self) -> None:
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self.executor = SingleThreadedExecutor()
        self.node = Node("vendor_stand_in")
        self.executor.add_node(self.node)
        self.calls: list[str] = []
        self.refuses: set[str] = set()
        self.stamp: Any = None
        self.driver: Any = None
        self._actions: list[Any] = []

    def offer(self, *names: str, of: str = "") -> None:
        from std_srvs.srv import Trigger

        for name in names:
            self.node.create_service(Trigger, name, self._answer(name))

    def offer_action(self, name: str) -> None:
        from rclpy.action import ActionServer

        from wam_msgs.action import RunTask

        def execute(handle: Any) -> Any:
            self.calls.append(name)
            handle.abort() if name in self.refuses else handle.succeed()
            return RunTask.Result()

        self._actions.append(ActionServer(self.node, RunTask, name, execute))

    def _answer(self, name: str) -> Callable[[Any, Any], Any]:
        def answer(_request: Any, response: Any) -> Any:
            self.calls.append(name)
            response.success = name not in self.refuses
            response.message = "" if response.success else "refused by the stand-in"
            return response

        return answer

    def publish_arm(self, topic: str) -> None:
        """Publish joint states of a Piper arm; their stamps stand still while `stamp` is set."""
        from sensor_msgs.msg import JointState

        from wam.ros.qos import JOINT_STATE_PUBLISHER

        publisher = self.node.create_publisher(JointState, topic, JOINT_STATE_PUBLISHER)

        def tick() -> None:
            message = JointState(name=PIPER_NAMES, position=[0.0, 1.3, -1.0, 0.0, 0.7, 0.0, 0.05])
            message.header.stamp = self.stamp or self.node.get_clock().now().to_msg()
            publisher.publish(message)

        self.node.create_timer(0.02, tick)

    def start(self, robot: str, *, caller: Any = None, **values: Any) -> Any:
        from rclpy.lifecycle import TransitionCallbackReturn
        from rclpy.parameter import Parameter

        from wam_driver_node.calls import StepCaller
        from wam_driver_node.node import DriverNode
        from wam_msgs.action import RunTask

        self.sent: list[tuple[str, Mapping[str, object]]] = []

        def remembering(node: Any, *, find: Any) -> StepCaller:
            return StepCaller(node, find=find, fill=self._remember)

        self.driver = DriverNode(
            find=stand_in,
            caller=caller or remembering,
            gripper_types={"move": RunTask, "grasp": RunTask},
            parameter_overrides=[Parameter(n, value=v) for n, v in {"robot": robot, **values}.items()],
        )
        self.executor.add_node(self.driver)
        assert self.driver.trigger_configure() == TransitionCallbackReturn.SUCCESS, self.driver.last_error
        assert self.driver.trigger_activate() == TransitionCallbackReturn.SUCCESS, self.driver.last_error
        self.until(lambda: all(cycle._hand.reading for cycle in self.driver.cycles), "the mock hand")
        return self.driver

    def _remember(self, message: Any, values: Mapping[str, object]) -> Any:
        self.sent.append((type(message).__name__, values))
        return message

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, name)
        future = client.call_async(request)
        self.until(future.done, f"answer of {name}")
        return future.result()

    def recover(self) -> Any:
        from std_srvs.srv import Trigger

        return self.call(Trigger, "wam_driver/recover", Trigger.Request())

    def until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what, turn=lambda: self.executor.spin_once(timeout_sec=0.05))

    def close(self) -> None:
        if self.driver is not None:
            self.driver.trigger_shutdown()
            self.driver.destroy_node()
        for server in self._actions:
            server.destroy()
        self.node.destroy_node()
        self.executor.shutdown()


def stand_in(key: str) -> Any:
    """A type of a package that is always there, in place of the vendor's; None where it is a message."""
    from std_srvs.srv import Trigger

    from wam.devices.optional import VENDOR_TYPES
    from wam_msgs.action import RunTask

    return {"srv": Trigger, "action": RunTask, "msg": None}[VENDOR_TYPES[key][1]]


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    import rclpy

    rclpy.init(args=[])
    vendor = Vendor()
    yield vendor
    vendor.close()
    rclpy.try_shutdown()


def in_state(
    vendor: Vendor, state: Any, *, until: Callable[[], bool] = lambda: False, then: Any = None
) -> None:
    """Let the arm be in a state that the vendor's message would have told, and in `then` once `until` holds."""
    (arm,) = (arm for arm in vendor.driver.arms if arm.group.name == "arm")
    arm.state = lambda: then if until() else state


def start_franka(vendor: Vendor, twin: FrankaDriver) -> TwinCaller:
    """Start the node before a twin of the arm and return what carries its calls."""
    made: list[TwinCaller] = []

    def caller(node: Any, *, find: Any) -> TwinCaller:
        made.append(TwinCaller(twin, node=node))
        return made[0]

    vendor.start("franka", caller=caller)
    return made[0]


def test_a_reflex_is_recovered_to_the_last_step_and_the_stop_is_left_to_a_person(vendor: Vendor) -> None:
    twin = moving_franka()
    caller = start_franka(vendor, twin)
    twin.request("fault", measured=twin.setpoint)
    reflex = franka.FrankaSample(4, 0.0, ("joint_reflex",))
    in_state(
        vendor,
        franka.assess(reflex, controllers=("fr3_arm_controller",)),
        until=lambda: bool(caller.calls),
        then=franka.assess(franka.FrankaSample(2, 1.0)),
    )
    answer = vendor.recover()
    assert answer.success, answer.message
    assert caller.calls[0] == "action_server/error_recovery"
    assert caller.calls[-1] == "switch_controller activate"
    assert twin.mode is franka.FrankaMode.MOVE
    assert "done: clear the reflex" in answer.message
    assert "to be done by hand: clear the latched stop" in answer.message


@pytest.mark.parametrize("event", ["fault", ""])
def test_an_arm_that_seems_well_is_looked_for_in_the_lists_of_its_driver(vendor: Vendor, event: str) -> None:
    """On Humble the state of the moment before the reflex is repeated: the recovery found nothing to do."""
    twin = moving_franka(Distribution.HUMBLE)
    caller = start_franka(vendor, twin)
    if event:
        twin.request(event, measured=twin.setpoint)
    in_state(vendor, franka.assess(franka.FrankaSample(2, 1.0)))
    answer = vendor.recover()
    assert answer.success, answer.message
    assert bool(caller.calls) is bool(event)
    assert ("hardware_down" in answer.message) is bool(event)
    assert twin.mode is franka.FrankaMode.MOVE


def test_a_protective_stop_is_unlocked_and_the_program_started_anew(vendor: Vendor) -> None:
    """Resuming the program would go on with the motion from before the stop."""
    names = [
        f"dashboard_client/{name}"
        for name in ("close_safety_popup", "unlock_protective_stop", "stop", "play")
    ]
    vendor.offer(*names)
    vendor.start("ur5e_inspire")
    stopped = ur.assess(ur.UrSample(True, 7, 3, False, 0.0))
    in_state(vendor, stopped, until=lambda: vendor.calls == names, then=UR_RUNS)
    assert vendor.recover().success


def test_calls_that_were_all_answered_with_yes_prove_no_recovery(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The robot was said to be recovered although it stayed in its protective stop."""
    from wam_driver_node import arm

    monkeypatch.setattr(arm, "PROOF_S", 0.1)
    vendor.offer(
        *(f"dashboard_client/{n}" for n in ("close_safety_popup", "unlock_protective_stop", "stop", "play"))
    )
    vendor.start("ur5e_inspire")
    in_state(vendor, ur.assess(ur.UrSample(True, 7, 3, False, 0.0)))
    answer = vendor.recover()
    assert not answer.success
    assert "not proven to follow: safety mode protective stop (3)" in answer.message


class BlindUr:
    """A UR whose modes cannot be read: its driver publishes joint states, speed scaling and the running program."""

    def __init__(self, vendor: Vendor, *, program: bool, scaling: float) -> None:
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Bool, Float64

        from wam.ros.qos import JOINT_STATE_PUBLISHER
        from wam.ros.status_feeds import LATCHED

        self.vendor, self.scaling = vendor, scaling
        self._program = vendor.node.create_publisher(Bool, ur.PROGRAM_TOPIC, LATCHED)
        speed = vendor.node.create_publisher(Float64, ur.SCALING_TOPIC, JOINT_STATE_PUBLISHER)
        vendor.node.create_publisher(JointState, "joint_states", JOINT_STATE_PUBLISHER)
        vendor.node.create_timer(0.02, lambda: speed.publish(Float64(data=self.scaling)))
        self.run(program)
        self.arm = next(arm for arm in vendor.start("ur5e_inspire").arms if arm.group.name == "arm")

    def run(self, program: bool) -> None:
        from std_msgs.msg import Bool

        self._program.publish(Bool(data=program))

    def until(self, code: str) -> None:
        self.vendor.until(lambda: self.arm.state().code == code, code)


@pytest.mark.parametrize("unlocked", [False, True])
def test_a_protective_stop_that_cannot_be_seen_is_never_said_to_be_recovered(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch, unlocked: bool
) -> None:
    """Without ur_dashboard_msgs the old program was played, and its answer was taken for a recovery."""
    from wam_driver_node import arm

    monkeypatch.setattr(arm, "PROOF_S", 0.1)
    stop, play = "dashboard_client/stop", "dashboard_client/play"
    vendor.offer(stop, play)
    vendor.refuses = set() if unlocked else {play}
    robot = BlindUr(vendor, program=False, scaling=100.0)
    robot.until("program_not_running")
    answer = vendor.recover()
    assert vendor.calls == [stop, play], "the old motion is never resumed"
    assert not answer.success
    assert (
        "io_and_status_controller/safety_mode cannot be read: ur_dashboard_msgs is not installed"
        in answer.message
    )
    assert "dashboard_client/unlock_protective_stop" in answer.message, "what a person does"


def test_a_pause_is_left_to_a_person_and_not_said_to_be_recovered(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no step for the machine, and a recovery without a step was said to have succeeded."""
    from wam_driver_node import arm

    monkeypatch.setattr(arm, "PROOF_S", 0.1)
    vendor.offer("dashboard_client/stop", "dashboard_client/play")
    robot = BlindUr(vendor, program=True, scaling=100.0)
    robot.until("modes_unseen")
    unknown = vendor.recover()
    assert not unknown.success
    assert "speed scaling is 1.00: moves are possible, but" in unknown.message
    robot.scaling = 0.0
    robot.until("paused")
    paused = vendor.recover()
    assert not paused.success
    assert "done: nothing; not proven to follow: speed scaling is 0.000" in paused.message
    assert vendor.calls == []


@pytest.mark.parametrize("headless", [False, True])
def test_the_program_is_sent_again_only_where_it_cannot_be_played(vendor: Vendor, headless: bool) -> None:
    play, resend = "dashboard_client/play", "io_and_status_controller/resend_robot_program"
    vendor.offer(play, resend)
    vendor.refuses = {play} if headless else set()
    vendor.start("ur5e_inspire")
    calls = [play, resend] if headless else [play]
    stopped = ur.assess(ur.UrSample(True, 7, 1, False, 1.0))
    in_state(vendor, stopped, until=lambda: vendor.calls == calls, then=UR_RUNS)
    assert vendor.recover().success
    assert vendor.calls == calls


@pytest.mark.parametrize("may_move", [False, True])
def test_brakes_are_released_only_where_that_was_allowed(vendor: Vendor, may_move: bool) -> None:
    names = [f"dashboard_client/{name}" for name in ("power_on", "brake_release", "play")]
    vendor.offer(*names)
    vendor.start("ur5e_inspire", recover_moving=may_move)
    off = ur.assess(ur.UrSample(True, ur.UrMode.POWER_OFF, 1, False, 1.0))
    in_state(vendor, off, until=lambda: vendor.calls == names, then=UR_RUNS)
    answer = vendor.recover()
    assert answer.success is may_move
    assert vendor.calls == (names if may_move else names[:1])
    assert may_move or "the robot may move or sink; do this by hand, or set recover_moving" in answer.message


def test_a_service_that_nobody_offers_is_named(vendor: Vendor) -> None:
    vendor.start("ur5e_inspire")
    in_state(vendor, ur.assess(ur.UrSample(True, ur.UrMode.POWER_OFF, 1, False, 1.0)))
    answer = vendor.recover()
    assert not answer.success
    assert "no server offers the service dashboard_client/power_on" in answer.message


def test_an_arm_without_a_fault_is_left_alone(vendor: Vendor) -> None:
    vendor.offer("dashboard_client/play")
    vendor.start("ur5e_inspire")
    in_state(vendor, UR_RUNS)
    answer = vendor.recover()
    assert answer.success
    assert "running, speed scaling 1.00" in answer.message
    assert vendor.calls == []


def test_both_arms_are_enabled_by_one_call_and_again_after_a_lost_bus(vendor: Vendor) -> None:
    """The driver goes on publishing when the bus is lost; drives that were off meanwhile must not follow at once."""
    from std_srvs.srv import SetBool

    vendor.offer("left/enable_srv", "right/enable_srv")
    for side in ("left", "right"):
        vendor.publish_arm(f"{side}/joint_states_single")
    driver = vendor.start("piper")

    def codes() -> list[str]:
        return [arm.watch.arm.state(driver.clock.now_ns()).code for arm in driver.arms]

    vendor.until(lambda: codes() == ["not_enabled"] * 2, "arms that are not enabled")
    answer = vendor.call(SetBool, "wam_driver/enable", SetBool.Request(data=True))
    assert answer.success, answer.message
    assert sorted(vendor.calls) == ["left/enable_srv", "right/enable_srv"]
    assert codes() == ["ready"] * 2
    vendor.stamp = vendor.node.get_clock().now().to_msg()
    vendor.until(lambda: codes() == ["can_lost"] * 2, "the lost bus")
    refused = vendor.recover()
    assert not refused.success
    assert "enable the drives" in refused.message
    assert "may move or sink" in refused.message
    vendor.stamp = None
    vendor.until(lambda: codes() == ["not_enabled"] * 2, "the bus again")
    off = vendor.call(SetBool, "wam_driver/enable", SetBool.Request(data=False))
    assert "drives stay on" in off.message
    assert len(vendor.calls) == 2


def test_drives_that_a_recovery_has_switched_on_are_known_to_be_on(vendor: Vendor) -> None:
    """Nobody told the arm of the call: it stayed `not_enabled`, while its status alone proves nothing."""
    names = ["left/enable_srv", "right/enable_srv"]
    vendor.offer(*names)
    for side in ("left", "right"):
        vendor.publish_arm(f"{side}/joint_states_single")
    driver = vendor.start("piper", recover_moving=True)

    def codes() -> list[str]:
        return [arm.state().code for arm in driver.arms]

    vendor.until(lambda: codes() == ["status_unseen"] * 2, "arms of which nothing is known")
    unknown = vendor.recover()
    assert not unknown.success
    assert "cannot be read without piper_msgs" in unknown.message
    for arm in driver.arms:
        arm.watch.arm.on_disabled()
    answer = vendor.recover()
    assert answer.success, answer.message
    assert vendor.calls == names
    assert codes() == ["ready"] * 2


def test_enabling_that_would_close_a_gripper_is_refused_where_the_robot_file_forbids_it(
    vendor: Vendor, tmp_path: Path
) -> None:
    """The right arm is allowed to: what it does to its gripper is logged before it is asked for."""
    from rcl_interfaces.msg import Log
    from std_srvs.srv import SetBool

    file = tmp_path / "robot.yaml"
    text = find_robot("piper").read_text(encoding="utf-8")
    file.write_text(text.replace("gripper_on_enable: may_close", "gripper_on_enable: keep", 1))
    vendor.offer("left/enable_srv", "right/enable_srv")
    for side in ("left", "right"):
        vendor.publish_arm(f"{side}/joint_states_single")
    driver = vendor.start(str(file))
    logged: list[str] = []
    vendor.node.create_subscription(Log, "/rosout", lambda line: logged.append(line.msg), 100)
    vendor.until(
        lambda: (
            driver.count_subscribers("/rosout") > 0
            and all(a.state().code == "status_unseen" for a in driver.arms)
        ),
        "joint states",
    )
    answer = vendor.call(SetBool, "wam_driver/enable", SetBool.Request(data=True))
    assert not answer.success
    assert "`gripper_on_enable: keep`" in answer.message
    assert "write `gripper_on_enable: may_close`" in answer.message
    assert set(vendor.calls) == {"right/enable_srv"}
    vendor.until(lambda: any("right CLOSES ITS GRIPPER" in line for line in logged), "the warning")
    assert not any("left CLOSES" in line for line in logged)


def test_an_arm_that_does_not_get_enabled_says_why(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    from std_srvs.srv import SetBool

    monkeypatch.setattr(piper, "ENABLE_TIMEOUT_NS", 10**9)
    vendor.offer("left/enable_srv", "right/enable_srv")
    vendor.refuses = {"left/enable_srv"}
    for side in ("left", "right"):
        vendor.publish_arm(f"{side}/joint_states_single")
    driver = vendor.start("piper")
    vendor.until(lambda: all(arm.state().code == "status_unseen" for arm in driver.arms), "joint states")
    answer = vendor.call(SetBool, "wam_driver/enable", SetBool.Request(data=True))
    assert vendor.calls.count("left/enable_srv") > 1, "asked once"
    assert (
        "not enabled within 1 s (refused by the stand-in)"
        in driver.arms[0].watch.arm.state(driver.clock.now_ns()).text
    )
    assert not answer.success


def test_requests_are_filled_as_the_vendors_types_want_them() -> None:
    from wam_driver_node.calls import fill_request, read_answer

    steps = recovery_steps(["fr3_arm_controller"])
    request = SimpleNamespace(target_state=SimpleNamespace())
    fill_request(request, dict(steps[2].values))
    assert (request.name, request.target_state.id, request.target_state.label) == (HARDWARE, 2, "inactive")
    assert read_answer(SimpleNamespace(ok=False)) == (False, "")
    assert read_answer(SimpleNamespace(enable_response=True)) == (True, "")
    assert read_answer(SimpleNamespace(success=False, message="no")) == (False, "no")


MACHINE_STEPS: list[tuple[str, Step]] = [
    (f"{name}: {step.name}", step)
    for name, steps in {
        "franka": recovery_steps(["fr3_arm_controller"]),
        "piper": (*piper.enabling_calls(PIPER_ROS), *piper.enabling_calls(AGX_ARM_ROS)),
    }.items()
    for step in steps
    if step.name
]


@pytest.mark.parametrize(("name", "step"), MACHINE_STEPS, ids=[name for name, _ in MACHINE_STEPS])
def test_a_step_fits_the_vendors_own_type_where_it_is_installed(name: str, step: Step) -> None:
    from wam.devices.optional import VENDOR_TYPES, find_type
    from wam.devices.state import StepKind
    from wam_driver_node.calls import fill_request

    found = find_type(step.type)
    if found is None:
        pytest.skip(f"{VENDOR_TYPES[step.type][0]} is not installed")
    message = found.Goal() if step.kind is StepKind.ACTION else found.Request()
    fill_request(message, dict(step.values))
    for field, value in step.values:
        place = message
        for part in field.split("."):
            place = getattr(place, part)
        assert place == value
