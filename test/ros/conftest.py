# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests that use real rclpy: a context of their own, never the global one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import rclpy

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))


@pytest.fixture
def ros() -> Iterator[None]:
    """The global rclpy context, initialised for one test."""
    rclpy.init(args=[])
    yield
    rclpy.try_shutdown()
