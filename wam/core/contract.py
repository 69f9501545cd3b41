# SPDX-License-Identifier: Apache-2.0
"""The contract of a policy: its required inputs and its outputs."""

from __future__ import annotations

from dataclasses import dataclass

from wam.core.errors import ContractMismatch


@dataclass(frozen=True, slots=True)
class CameraContract:
    """One camera that a policy uses.

    Attributes:
        name: name in the policy and in the robot file.
        height: rows that the policy was trained on, after resizing [px].
        width: columns, after resizing [px].
    """

    name: str
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """The data that a policy was trained on, as far as they are known.

    Attributes:
        data_set: name of the data set.
        episodes: used for training; 0 for not known.
        seeds: first and last seed of a simulated data set; empty for others.
        images: quality of rendered images, as `--quality` names it; empty for others.
    """

    data_set: str = ""
    episodes: int = 0
    seeds: tuple[int, ...] = ()
    images: str = ""

    def __post_init__(self) -> None:
        if len(self.seeds) not in (0, 2) or not all(isinstance(seed, int) for seed in self.seeds):
            raise ValueError(f"seeds must be the first and the last, or none: {self.seeds}")

    def has_seed(self, seed: int) -> bool:
        """Return whether the episode of this seed may be among the data."""
        return bool(self.seeds) and self.seeds[0] <= seed <= self.seeds[1]


NOT_STATED = TrainedOn()
"""Of a policy that says nothing about its data."""


@dataclass(frozen=True, slots=True)
class PolicyContract:
    """What both nodes, the safety chain and the recordings must agree on.

    Attributes:
        kind: "aha_wam", "dust", "ud_vla" or the name of a fake.
        contract_hash: SHA-256 (hex) of policy.yaml, the statistics and the weights' header.
        cameras: cameras in the order of the policy's input.
        state_joints: joint names of the proprioception, in order.
        action_joints: joint names of the action rows, in order.
        control_period_ns: time between two rows [ns].
        chunk_rows: rows delivered as one action chunk.
        horizon_rows: rows, counted from the context's image, that one planner context can serve.
        instruction: the task text used by default.
        environment: names of the ground truth that it needs, in order; only a simulation publishes them.
        relative_actions: the network's rows are relative to the measured state at their observation; chunks never are.
        task: name of the task that it was trained for; "" where that is not stated.
        trained_on: the data that it was trained on.
        execute_rows: rows of a chunk that are executed before the executor computes the next one; 0: it computes one
            from every new image, at its own period.
    """

    kind: str
    contract_hash: str
    cameras: tuple[CameraContract, ...]
    state_joints: tuple[str, ...]
    action_joints: tuple[str, ...]
    control_period_ns: int
    chunk_rows: int
    horizon_rows: int
    instruction: str
    relative_actions: bool = False
    environment: tuple[str, ...] = ()
    task: str = ""
    trained_on: TrainedOn = NOT_STATED
    execute_rows: int = 0

    def __post_init__(self) -> None:
        if self.control_period_ns <= 0:
            raise ValueError(f"control_period_ns is {self.control_period_ns}, must be positive")
        if not 0 < self.chunk_rows <= self.horizon_rows:
            raise ValueError(
                f"chunk_rows is {self.chunk_rows}, must be in 1..horizon_rows={self.horizon_rows}"
            )
        if not 0 <= self.execute_rows <= self.chunk_rows:
            raise ValueError(
                f"execute_rows is {self.execute_rows}, must be in 0..chunk_rows={self.chunk_rows}"
            )
        for label, names in (("state_joints", self.state_joints), ("action_joints", self.action_joints)):
            if len(set(names)) != len(names) or not names:
                raise ValueError(f"{label} must be distinct and not empty: {names}")
        if len(set(self.environment)) != len(self.environment):
            raise ValueError(f"environment must be distinct: {self.environment}")
        unmeasured = sorted(set(self.action_joints) - set(self.state_joints))
        if self.relative_actions and unmeasured:
            raise ValueError(
                f"relative_actions need every action joint in state_joints; missing: {unmeasured}"
            )

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names of the cameras, in the order of the policy's input."""
        return tuple(camera.name for camera in self.cameras)

    @property
    def execute_ns(self) -> int:
        """Time for which a chunk is executed before the next one is computed [ns]."""
        return self.execute_rows * self.control_period_ns

    @property
    def horizon_ns(self) -> int:
        """Time that one planner context can serve, counted from its image [ns]."""
        return self.horizon_rows * self.control_period_ns


def require_same_contract(*, mine: str, theirs: str, my_side: str, their_side: str) -> None:
    """Raise an error if the two sides were built for different policies.

    Args:
        mine: contract hash of this side.
        theirs: contract hash of the other side.
        my_side: name of this side ("executor").
        their_side: name of the other side ("planner context").

    Raises:
        ContractMismatch: the hashes differ; the text names both sides.
    """
    if mine != theirs:
        raise ContractMismatch(
            f"{my_side} and {their_side} were built for different policies: "
            f"{my_side} has contract {mine[:12]}, {their_side} has {theirs[:12]}",
            where="the parameter `policy` of both nodes (they must name the same bundle)",
        )
