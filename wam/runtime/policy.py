# SPDX-License-Identifier: Apache-2.0
"""Requests for a policy, and the check that policy and robot fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import yaml

from wam.core.clock import NS_PER_S
from wam.core.contract import CameraContract, PolicyContract
from wam.core.errors import BundleError, ConfigError, ContractMismatch
from wam.core.fakes import FakeExecutor, FakePlanner, fake_contract
from wam.core.policy import LoadedPolicy
from wam.core.transport.numpy_codec import NumpyCodec
from wam.robots.description import RobotDescription

FAKE_POLICY = "fake"
EAGER = "eager"
BACKENDS = ("auto", EAGER, "cuda_graph", "onnxruntime", "tensorrt", "triton", "compile")
"""What may run the stages of a policy's inference."""

FAKE_ROWS_PER_SECOND = 30
FAKE_AMPLITUDE = 0.2
FAKE_APPROACH_S = 2.0
"""Time constant with which the wave comes to a centre that was asked for [s]."""

FAKE_SHARE_OF_RANGE = 0.2
"""A gripper with a range of 0.07 m must not move by 0.2 m."""


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """Which policy to load, and which halves of it.

    Attributes:
        policy: directory of a bundle, name of one that ships, or "fake", "aha_wam/random" and the like.
        planner: load the slow half.
        executor: load the fast half.
        device: "cpu", "cuda:0", or "auto"; a device that is absent is an error.
        threads: CPU threads of the tensor library in this process.
        seed: seed of the start noise.
        backend: what runs the stages of inference, see `read_backend`.
        sampler: entries of the bundle's `sampler` section that are replaced, e.g. {"steps": 4}.
    """

    policy: str
    planner: bool
    executor: bool
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    backend: str = "auto"
    sampler: Mapping[str, object] = field(default_factory=dict)


def read_sampler(text: str) -> dict[str, object]:
    """Read entries of a sampler section from one line, such as "q: 16, action_steps: 4".

    Args:
        text: the inside of a YAML mapping; empty for none.

    Raises:
        ConfigError: it is not a mapping of names to plain values.
    """
    try:
        values = yaml.safe_load("{" + text + "}")
    except yaml.YAMLError:
        values = None
    if (
        not isinstance(values, dict)
        or not all(isinstance(name, str) for name in values)
        or not all(isinstance(value, (bool, int, float, str)) for value in values.values())
    ):
        raise ConfigError(
            "sampler",
            value=text,
            allowed='names and plain values, e.g. "q: 16, action_steps: 4"',
            where="the parameter `sampler`",
        )
    return values


OR_AUTO = " or auto"
"""Follows a backend's name where the suite may choose another one for what it cannot run."""


@dataclass(frozen=True, slots=True)
class NamedBackend:
    """A backend that a user names.

    Attributes:
        name: one of `BACKENDS`.
        or_auto: what it cannot run is left to the suite, with the reason; else that is an error.
    """

    name: str = BACKENDS[0]
    or_auto: bool = False


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """What runs the stages of a policy's inference, as a user chooses it.

    Attributes:
        whole: for every stage that `stages` does not name.
        stages: by stage.
    """

    whole: NamedBackend = NamedBackend()
    stages: Mapping[str, NamedBackend] = field(default_factory=dict)


def read_backend(text: str) -> BackendChoice:
    """Read a choice of backends from one line: "auto", or "triton or auto, denoise: eager, route: onnxruntime".

    Raises:
        BundleError: a backend is unknown, or the line is no such list.
    """
    whole: NamedBackend | None = None
    stages: dict[str, NamedBackend] = {}
    for entry in text.split(","):
        stage, colon, asked = (part.strip() for part in entry.rpartition(":"))
        name = asked.removesuffix(OR_AUTO)
        one = NamedBackend(name, or_auto=name != asked)
        if name not in BACKENDS or (colon and (not stage or stage in stages)) or (not colon and whole):
            raise BundleError(
                "backend",
                value=text,
                allowed=f"{', '.join(BACKENDS)}; for single stages e.g. 'auto, denoise: eager', and 'triton or auto' "
                "where the suite may choose for what a backend cannot run",
                where="the parameter `backend`",
            )
        if colon:
            stages[stage] = one
        else:
            whole = one
    return BackendChoice(whole or NamedBackend(), stages)


class PolicyLoader(Protocol):
    """Loads policies. It is passed to the nodes, which therefore do not import torch."""

    def __call__(self, request: PolicyRequest, *, robot: RobotDescription) -> LoadedPolicy:
        """Load the requested halves.

        Raises:
            BundleError: the bundle is missing, damaged or of another shape.
        """
        ...


def load_fake(request: PolicyRequest, *, robot: RobotDescription) -> LoadedPolicy:
    """Return the numpy fake for `robot`: it reads the first camera, if there is one, and waves every joint.

    The centre of the wave is where the robot is first measured; `centre: home` of the sampler lets it come to the home
    position of the robot file, so that executors that are started one after another do not walk away from it.

    Raises:
        ConfigError: the request sets anything else of a sampler.
    """
    if request.sampler not in ({}, {"centre": "home"}):
        raise ConfigError(
            "sampler",
            value=dict(request.sampler),
            allowed="for the fake policy: nothing, or `centre: home`",
            where="`sampler`",
        )
    centre = None
    if request.sampler:
        centre = np.array([joint.home for group in robot.groups for joint in group.joints])
    contract = fake_contract(
        joint_names=robot.joint_names,
        cameras=tuple(CameraContract(one.name, one.height, one.width) for one in robot.cameras[:1]),
        control_period_ns=NS_PER_S // FAKE_ROWS_PER_SECOND,
    )
    limits = robot.limits()
    amplitude = np.minimum(FAKE_AMPLITUDE, FAKE_SHARE_OF_RANGE * (limits.upper - limits.lower))
    return LoadedPolicy(
        contract=contract,
        planner=FakePlanner(contract) if request.planner else None,
        executor=FakeExecutor(contract, amplitude=amplitude, centre=centre, approach=FAKE_APPROACH_S)
        if request.executor
        else None,
        codec=NumpyCodec(),
    )


def require_task(contract: PolicyContract, task: str, *, policy: str, any_task: bool = False) -> None:
    """Refuse a task that a policy was not trained for; a policy that states none is taken for any.

    Args:
        contract: of the policy.
        task: name of the task.
        policy: as the user gave it.
        any_task: the user wants it all the same.

    Raises:
        ContractMismatch: the text names both tasks.
    """
    if contract.task not in ("", task) and not any_task:
        raise ContractMismatch(
            f"policy {policy} was trained for task {contract.task}, not for this one",
            value=task,
            allowed=contract.task,
            where="--task; --any-task runs it all the same",
        )


def require_fit(contract: PolicyContract, robot: RobotDescription) -> None:
    """Refuse a policy that needs a camera or a joint that the robot does not have, or does not wait for.

    Raises:
        ContractMismatch: the text names both sides and what is missing.
    """
    timeout_ns = robot.safety.chunk_timeout_ns
    if contract.execute_ns >= timeout_ns:
        raise ContractMismatch(
            f"policy {contract.kind} (contract {contract.contract_hash[:12]}) executes {contract.execute_rows} rows of "
            f"a chunk before it computes the next one, and robot {robot.name} is held before that",
            value=f"{contract.execute_ns / NS_PER_S:g} s",
            allowed=f"less than the chunk_timeout of {timeout_ns / NS_PER_S:g} s, by at least the time of one chunk",
            where=f"execute_rows in policy.yaml, or safety.chunk_timeout in {robot.source}",
        )
    cameras = {camera.name for camera in robot.cameras}
    joints = set(robot.joint_names)
    wanted = (
        ("camera", contract.camera_names, cameras),
        ("state joint", contract.state_joints, joints),
        ("action joint", contract.action_joints, joints),
    )
    for what, names, have in wanted:
        missing = [name for name in names if name not in have]
        if missing:
            raise ContractMismatch(
                f"policy {contract.kind} (contract {contract.contract_hash[:12]}) needs {what} "
                f"{', '.join(missing)}, which robot {robot.name} does not have",
                allowed=f"{what}s of {robot.name}: {', '.join(sorted(have))}",
                where=f"{robot.source}, or choose a policy made for this robot",
            )
