# SPDX-License-Identifier: Apache-2.0
"""An action client that may be made while another thread spins its node."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.action import ActionClient


class SpunActionClient(ActionClient):  # type: ignore[type-arg]
    """rclpy's action client, whose lock exists before its node shows it to executors.

    rclpy adds the client to the node first and makes the lock last; an executor that looks in between ends with an
    AttributeError, and with it all that it spins.

    Args:
        args: see `rclpy.action.ActionClient`.
        kwargs: likewise.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = threading.Lock()
        super().__init__(*args, **kwargs)
