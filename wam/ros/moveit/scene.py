# SPDX-License-Identifier: Apache-2.0
"""The planning scene of moveit_py, typed by what MoveIt publishes in its Python stubs (moveit_py/moveit/**/*.pyi)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from wam.ros.moveit.frames import FREE

Rows = npt.NDArray[np.float64]


class MoveItState(Protocol):
    """moveit.core.robot_state.RobotState, as far as it is used."""

    joint_positions: Mapping[str, float]

    def update(self) -> None:
        """Compute link transforms; needed before a check."""
        ...


class PlanningScene(Protocol):
    """moveit.core.planning_scene.PlanningScene, as far as it is used."""

    def is_state_colliding(
        self, robot_state: Any, joint_model_group_name: str, verbose: bool = False
    ) -> bool:
        """Return whether the state collides with itself or with the world."""
        ...

    def check_collision(self, collision_request: Any, collision_result: Any, robot_state: Any) -> None:
        """Fill the result."""
        ...


class PlanningSceneMonitor(Protocol):
    """moveit.planning.PlanningSceneMonitor, as far as it is used."""

    def read_only(self) -> AbstractContextManager[PlanningScene]:
        """Lock the scene for reading; it follows /planning_scene, /collision_object and the octomap."""
        ...


class MoveItScene:
    """States checked by MoveIt's planning scene; one thread.

    Args:
        monitor: of a running MoveItPy.
        make_state: makes a RobotState of its model.
        names: joints of the URDF, one per column of the states.
        group: planning group, or "" for the whole robot.
        detail: makes a CollisionRequest and a CollisionResult, to name the bodies; None leaves them unnamed.
        owner: kept alive as long as the scene: the destructor of a MoveItPy ends rclcpp for the whole process.
    """

    def __init__(
        self,
        monitor: PlanningSceneMonitor,
        make_state: Callable[[], MoveItState],
        *,
        names: tuple[str, ...],
        group: str,
        detail: Callable[[], tuple[Any, Any]] | None,
        owner: object = None,
    ) -> None:
        self._owner = owner
        self._monitor = monitor
        self._make_state = make_state
        self._names = names
        self._group = group
        self._detail = detail

    def first_contact(self, states: Rows) -> tuple[int, str]:
        """Return the index of the first colliding state and the bodies, or (`FREE`, "").

        Args:
            states: float64 [S, M], one column per joint of the URDF.
        """
        state = self._make_state()
        # Locked for reading, not copied: a copy of a scene with an octomap takes longer than the check.
        with self._monitor.read_only() as scene:
            for index, row in enumerate(states):
                state.joint_positions = dict(zip(self._names, row.tolist(), strict=True))
                state.update()
                if scene.is_state_colliding(
                    robot_state=state, joint_model_group_name=self._group, verbose=False
                ):
                    return index, self._bodies(scene, state)
        return FREE, ""

    def _bodies(self, scene: PlanningScene, state: MoveItState) -> str:
        if self._detail is None:
            return "robot\tplanning scene"
        request, result = self._detail()
        request.contacts = True
        request.max_contacts = 1
        request.joint_model_group_name = self._group
        scene.check_collision(request, result, state)
        pairs = list(result.contacts or ())
        if not pairs or len(pairs[0]) != 2:
            return "robot\tplanning scene"
        return f"{pairs[0][0]}\t{pairs[0][1]}"
