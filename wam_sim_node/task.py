# SPDX-License-Identifier: Apache-2.0
"""A simulated task on topics: the running episode's state and ground truth, and a service that starts another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import JointState

from wam.core.clock import NS_PER_S
from wam.ros.conversions import ns_to_time
from wam.ros.qos import JOINT_STATE_PUBLISHER, STATUS
from wam.runtime.ingest.ingest import TRUTH_RATE_HZ
from wam.sim.cycle import SimCycle
from wam.sim.pace import Pace
from wam.sim.tasks.world import TaskWorld
from wam_msgs.msg import TaskStatus
from wam_msgs.srv import StartEpisode

STATUS_RATE_HZ = 10.0


class TaskTopics:
    """Publishes `~/task` and `~/truth`, and offers `~/start_episode`.

    The ground truth is for policies that see it in place of images; `wam.sim.tasks.truth` says what its numbers mean.

    Args:
        node: lifecycle node that owns the entities.
        world: evaluates the task's criteria.
        cycle: steps the world, and starts its episodes.
        restarted: called after a start, e.g. to let physics go on that had ended; returns why it could not, or "".
    """

    def __init__(self, node: Any, world: TaskWorld, cycle: SimCycle, restarted: Callable[[], str]) -> None:
        self._node, self._world, self._cycle, self._restarted = node, world, cycle, restarted
        self._topic = node.create_lifecycle_publisher(TaskStatus, "~/task", STATUS)
        self._truth_topic = node.create_lifecycle_publisher(JointState, "~/truth", JOINT_STATE_PUBLISHER)
        self._truth_pace = Pace(round(NS_PER_S / TRUTH_RATE_HZ))
        self._service = node.create_service(StartEpisode, "~/start_episode", self._start)
        self._pace = Pace(round(NS_PER_S / STATUS_RATE_HZ))
        self._told: tuple[int, int] | None = None
        self._stamp_ns = 0

    def publish(self, stamp_ns: int, *, error: str = "") -> None:
        """Publish the state of the episode, where that is due or has changed."""
        self._stamp_ns = stamp_ns
        self._publish_truth(stamp_ns)
        with self._cycle.exclusive():
            state = (self._world.seed, self._world.progress())
            if not self._pace.due(stamp_ns) and state == self._told and not error:
                return
            self._told = state
            message = self._status(stamp_ns, error)
        self._topic.publish(message)

    def _publish_truth(self, stamp_ns: int) -> None:
        if not self._truth_pace.due(stamp_ns) or not self._truth_topic.get_subscription_count():
            return
        with self._cycle.exclusive():
            truth = self._world.truth(stamp_ns)
        message = JointState(name=list(truth.names), position=truth.values.tolist())
        message.header.stamp = ns_to_time(stamp_ns)
        self._truth_topic.publish(message)

    def fail(self, error: str) -> None:
        """Publish that the physics have ended."""
        self.publish(self._stamp_ns, error=error)

    def close(self) -> None:
        """Remove topic and service."""
        self._node.destroy_service(self._service)
        self._node.destroy_lifecycle_publisher(self._topic)
        self._node.destroy_lifecycle_publisher(self._truth_topic)

    def _status(self, stamp_ns: int, error: str) -> TaskStatus:
        world, message = self._world, TaskStatus()
        message.header.stamp = ns_to_time(stamp_ns)
        message.task, message.setting = world.task.name, world.setting.value
        message.seed, message.variant, message.instruction = world.seed, world.variant.name, world.instruction
        message.time = world.time
        message.progress, message.success = world.progress(), world.success()
        message.stages = [one.name for one in world.reached]
        message.stage_times = [one.time for one in world.reached]
        message.max_contact_force = world.max_contact_force
        message.error = error
        return message

    def _start(self, request: Any, response: Any) -> Any:
        stamp_ns = self._cycle.restart(int(request.seed))
        response.message = self._restarted()
        response.success = not response.message
        response.instruction, response.variant = self._world.instruction, self._world.variant.name
        response.stamp = ns_to_time(stamp_ns)
        return response
