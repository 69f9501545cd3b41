# SPDX-License-Identifier: Apache-2.0
"""`/diagnostics`: one status per node, levels and names by REP-107."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from wam.ros.qos import EVENT


class DiagnosticLevel(enum.IntEnum):
    """DiagnosticLevel of a diagnostics status."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


class Diagnostics:
    """Publishes one named status and logs when its level changes.

    Args:
        node: the node that reports.
        task: what the status is about; the status is called "NODE: TASK".
        hardware_id: robot name.
    """

    def __init__(self, node: Node, *, task: str, hardware_id: str) -> None:
        self._node = node
        self._name = f"{node.get_name()}: {task}"
        self._hardware_id = hardware_id
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", EVENT)
        self._level: DiagnosticLevel | None = None

    def report(self, level: DiagnosticLevel, message: str, values: Mapping[str, object]) -> None:
        """Publish the status; a change of level is logged once, with `message`."""
        status = DiagnosticStatus(
            level=bytes([level]),
            name=self._name,
            message=message,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)
        if level != self._level:
            logger = self._node.get_logger()
            # rclpy ties a call site to one severity: each level needs a line of its own.
            if level >= DiagnosticLevel.ERROR:
                logger.error(f"{level.name}: {message}")
            elif level == DiagnosticLevel.WARN:
                logger.warning(f"{level.name}: {message}")
            else:
                logger.info(f"{level.name}: {message}")
            self._level = level

    def close(self) -> None:
        """Remove the publisher."""
        self._node.destroy_publisher(self._publisher)
