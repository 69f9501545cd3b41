# SPDX-License-Identifier: Apache-2.0
"""`wam eval --ray`: at the edge to Ray, with a module of its interface in its place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from wam.core.errors import ConfigError
from wam.evaluation.closed_loop import ray as plays
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.closed_loop.player import PlayerJob
from wam.evaluation.replay.engine import ReplaySettings
from wam.robots.description import RobotDescription
from wam.runtime.policy import PolicyRequest
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting

pytestmark = pytest.mark.sim

TASK = find_task("franka_box_to_bowl")
SEEDS = (3, 4)


class WaitingRay:
    """What of Ray is used: init, remote, wait, get, shutdown, exceptions.RayError. The newest task ends first."""

    class exceptions:  # noqa: N801
        """As `ray.exceptions`."""

        class RayError(Exception):
            """As Ray's base of all errors of tasks."""

    def __init__(self) -> None:
        self.resources: list[dict[str, Any]] = []
        self.dying: set[int] = set()
        self.down = False

    def init(self, **options: Any) -> None:
        """Start nothing."""

    def remote(self, **options: Any) -> Any:
        """Return a decorator whose tasks are not yet called."""
        self.resources.append(options)
        return lambda function: SimpleNamespace(remote=lambda *arguments: partial(function, *arguments))

    def wait(self, refs: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        """Return the last one as finished."""
        return refs[-1:], refs[:-1]

    def get(self, ref: Any) -> Any:
        """Run a task; the chosen seeds die."""
        if ref.args[1] in self.dying:
            raise self.exceptions.RayError("The worker died unexpectedly.\nmore")
        return ref()

    def shutdown(self) -> None:
        """Remember it."""
        self.down = True


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[WaitingRay]:
    fake = WaitingRay()
    monkeypatch.setitem(sys.modules, "ray", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(plays, "_open", None)
    yield fake
    if plays._open is not None:
        plays._open[1].close()


def job(robot: RobotDescription, request: PolicyRequest | None = None) -> PlayerJob:
    options = EvalOptions(TASK, Setting.SEEN, "expert", SEEDS, ReplaySettings(0, 0), 0.2, videos=False)
    return PlayerJob(options, request, robot)


def test_seeds_are_played_as_the_cluster_finishes_them(
    ray: WaitingRay, small_franka: RobotDescription
) -> None:
    ray.dying = {3}
    played = [play.episode for play in plays.play_on_ray(job(small_franka), SEEDS, address="local")]
    assert [one.seed for one in played] == [4, 3]
    assert (played[0].error, played[1].error) == ("", "Ray: The worker died unexpectedly.")
    assert ray.resources == [{"num_cpus": 1, "num_gpus": 0, "max_retries": 0}]
    assert ray.down


def test_a_policy_that_a_worker_cannot_load_is_an_error_and_the_cluster_is_left(
    ray: WaitingRay, small_franka: RobotDescription
) -> None:
    request = PolicyRequest("fake", planner=True, executor=True, device="cuda:0", threads=2, sampler={"q": 2})
    with pytest.raises(ConfigError, match="sampler"):
        list(plays.play_on_ray(job(small_franka, request), SEEDS, address="local"))
    assert ray.resources == [{"num_cpus": 2, "num_gpus": 1, "max_retries": 0}]
    assert ray.down


def test_a_stop_leaves_the_running_tasks(ray: WaitingRay, small_franka: RobotDescription) -> None:
    stopped = plays.play_on_ray(job(small_franka), SEEDS, address="local", stopped=lambda: True)
    assert list(stopped) == []
    assert ray.down
