# SPDX-License-Identifier: Apache-2.0
"""What `wam demo` is going to do: by default the robot's task, with the policy that ships for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from wam.core.clock import seconds_to_ns
from wam.core.contract import PolicyContract
from wam.core.errors import ConfigError
from wam.devices.loader import load_robot
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.replay.engine import ReplaySettings
from wam.policies.kind import RANDOM
from wam.policies.loading import load_policy
from wam.policies.shipped import bundle_directory, shipped_bundles
from wam.robots.description import RobotDescription
from wam.runtime.policy import PolicyRequest, require_fit, require_task
from wam.sim.quality import Quality
from wam.sim.tasks.free import FREE
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting
from wam.sim.tasks.world import require_robot
from wam.stack.node_specs import StackOptions


@dataclass(frozen=True, slots=True)
class DemoDefault:
    """Default of a robot.

    Attributes:
        task: name of the task.
        policy: directory of a bundle, or the name KIND/NAME of one that ships.
    """

    task: str
    policy: str


DEMOS: Mapping[str, DemoDefault] = {
    "piper": DemoDefault("piper_move_large_object", "state/piper_move_large_object"),
    "franka": DemoDefault("franka_box_to_bowl_near", "state/franka_box_to_bowl_near"),
    "ur5e_inspire": DemoDefault("ur5e_inspire_put_block_near", "state/ur5e_inspire_put_block_near"),
}
"""Robot -> default; other robots have no task."""

RANDOM_POLICY = f"aha_wam/{RANDOM}"
NO_TASK = DemoDefault(FREE, "")


@dataclass(frozen=True, slots=True)
class DemoChoice:
    """What a demo is going to do.

    Attributes:
        task: name of the task; "free" for none.
        policy: directory or name.
        notes: a sentence for each thing worth saying before it starts.
    """

    task: str
    policy: str
    notes: tuple[str, ...] = ()


def choose_demo(robot: str, *, task: str = "", policy: str = "") -> DemoChoice:
    """Return what a demo does; where no trained policy ships for the task, one with random weights is taken.

    Args:
        robot: name of the robot file.
        task: wanted by the user; "" for the default.
        policy: wanted by the user; "" for the default.
    """
    default = DEMOS.get(robot, NO_TASK)
    chosen = task or default.task
    if policy:
        return DemoChoice(chosen, policy)
    of_task = [name for name in shipped_bundles() if name.endswith(f"/{chosen}")]
    for known in (default.policy, *of_task) if chosen == default.task else of_task:
        if bundle_directory(known) is not None:
            return DemoChoice(chosen, known)
    what = robot if chosen in (FREE, default.task) else f"task {chosen}"
    note = f"no trained policy ships for {what} yet: random weights, the arm will only twitch"
    return DemoChoice(chosen, RANDOM_POLICY, (note,))


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """A demo that can be run.

    Attributes:
        options: the task, its seed and its time limit.
        stack: the processes to start.
        robot: the robot of `stack.robot`.
        contract: of the policy.
        notes: a sentence for each thing worth saying before it starts.
    """

    options: EvalOptions
    stack: StackOptions
    robot: RobotDescription
    contract: PolicyContract
    notes: tuple[str, ...]


def plan_demo(
    wanted: StackOptions,
    *,
    task: str = "",
    any_task: bool = False,
    seconds: float | None = None,
    quality: Quality | None = None,
) -> DemoPlan:
    """Choose task and policy, and check that they fit each other and the robot; nothing is started.

    Args:
        wanted: the processes; an empty policy and an empty instruction take the defaults.
        task: name of the task; "" for the robot's.
        any_task: take a policy that was not trained for the task.
        seconds: time limit [s]; None for that of the task.
        quality: of the images; None for what the policy was trained on.

    Raises:
        ConfigError: there is no such robot or task, or the robot cannot be simulated.
        BundleError: there is no such policy, or it is damaged.
        ContractMismatch: task, policy and robot do not fit.
    """
    robot = load_robot(wanted.robot)
    if robot.urdf is None:
        raise ConfigError(
            f"robot {robot.name} cannot be simulated: its robot file has no model",
            allowed="a robot whose file has a urdf, e.g. piper",
            where="the argument ROBOT",
        )
    choice = choose_demo(robot.name, task=task, policy=wanted.policy)
    played = find_task(choice.task, robot=robot.name)
    require_robot(played, robot.name)
    request = PolicyRequest(choice.policy, planner=False, executor=False)
    contract = load_policy(request, robot=robot).contract
    require_fit(contract, robot)
    require_task(contract, played.name, policy=choice.policy, any_task=any_task)
    notes = list(choice.notes)
    if contract.environment:
        notes.append("this policy has no eyes: the simulator tells it where the objects are")
    if contract.trained_on.has_seed(wanted.seed):
        first, last = contract.trained_on.seeds
        notes.append(f"seed {wanted.seed} is one of those that the policy was trained on ({first} to {last})")
    schedule = ReplaySettings(
        planner_latency_ns=None,
        executor_latency_ns=None,
        planner_period_ns=seconds_to_ns(wanted.plan_period),
        executor_period_ns=seconds_to_ns(wanted.chunk_period),
    )
    options = EvalOptions(
        task=played,
        setting=Setting.SEEN,
        policy=choice.policy,
        seeds=(wanted.seed,),
        schedule=schedule,
        time_limit=seconds,
        quality=quality or Quality(contract.trained_on.images or Quality.FULL),
    )
    instruction = wanted.instruction or (contract.instruction if played.name == FREE else "")
    stack = replace(wanted, policy=choice.policy, instruction=instruction)
    return DemoPlan(options, stack, robot, contract, tuple(notes))
