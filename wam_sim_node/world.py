# SPDX-License-Identifier: Apache-2.0
"""The whole simulated world on a topic, for a viewer of it in another process."""

from __future__ import annotations

from typing import Any

import mujoco
from sensor_msgs.msg import JointState

from wam.core.clock import NS_PER_S
from wam.ros.conversions import ns_to_time
from wam.ros.qos import JOINT_STATE_PUBLISHER
from wam.sim.cycle import SimCycle
from wam.sim.model import position_names
from wam.sim.pace import Pace

WORLD_RATE_HZ = 30.0


class WorldTopic:
    """Publishes `~/world` while somebody listens: the positions of robot and objects, 30 times a second.

    The names are those of `position_names`; a free object has seven positions, place [m] and quaternion (w first).

    Args:
        node: lifecycle node that owns the publisher.
        cycle: steps the world.
        model: of the world.
    """

    def __init__(self, node: Any, cycle: SimCycle, model: mujoco.MjModel) -> None:
        self._node, self._cycle = node, cycle
        self._names = list(position_names(model))
        self._topic = node.create_lifecycle_publisher(JointState, "~/world", JOINT_STATE_PUBLISHER)
        self._pace = Pace(round(NS_PER_S / WORLD_RATE_HZ))

    def publish(self, stamp_ns: int) -> None:
        """Publish the world where that is due and somebody listens; called in the thread of the physics."""
        if not self._pace.due(stamp_ns) or not self._topic.get_subscription_count():
            return
        snapshot = self._cycle.snapshot()
        if snapshot is None:
            return
        message = JointState(name=self._names, position=snapshot.qpos.tolist())
        message.header.stamp = ns_to_time(snapshot.stamp_ns)
        self._topic.publish(message)

    def close(self) -> None:
        """Remove the topic."""
        self._node.destroy_lifecycle_publisher(self._topic)
