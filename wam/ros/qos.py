# SPDX-License-Identifier: Apache-2.0
"""QoS profiles by kind of stream; nodes name a kind and never a depth."""

from __future__ import annotations

from typing import Any

from rclpy.duration import Duration
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSLivelinessPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
)


def _profile(
    *,
    reliable: bool,
    depth: int,
    latched: bool = False,
    deadline: float = 0.0,
    lifespan: float = 0.0,
    lease: float = 0.0,
) -> QoSProfile:
    watched: dict[str, Any] = {}
    if deadline:
        watched["deadline"] = Duration(nanoseconds=int(deadline * 1e9))
    if lifespan:
        watched["lifespan"] = Duration(nanoseconds=int(lifespan * 1e9))
    if lease:
        watched["liveliness"] = QoSLivelinessPolicy.AUTOMATIC
        watched["liveliness_lease_duration"] = Duration(nanoseconds=int(lease * 1e9))
    return QoSProfile(
        **watched,
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE,
    )


CLOCK = _profile(reliable=True, depth=1)
"""Simulated time: the newest one counts, for subscribers of either reliability."""

IMAGE_PUBLISHER = _profile(reliable=True, depth=1)
"""Cameras offer reliable, so that any subscriber can choose (REP-2003)."""

IMAGE = _profile(reliable=False, depth=1)
"""Subscribers want the newest image and match publishers of either reliability."""

IMAGE_RELIABLE = _profile(reliable=True, depth=1)
"""The same with retransmission of lost fragments; a best-effort publisher does not match it."""

PACKETS = _profile(reliable=False, depth=30)
"""Packets of a video: each needs the one before, so none may be replaced by a newer one."""

PACKETS_RELIABLE = _profile(reliable=True, depth=30)
"""The same with retransmission; a best-effort publisher does not match it."""

JOINT_STATE_PUBLISHER = _profile(reliable=True, depth=10)
"""Joint states of a driver."""

JOINT_STATE = _profile(reliable=False, depth=10)
"""Subscribers of joint states match publishers of either reliability."""

JOINT_STATE_QUEUE = _profile(reliable=False, depth=250)
"""The same for a subscriber that reads them in one go: what a 1 kHz driver sends in a quarter of a second."""

COMMAND = _profile(reliable=True, depth=1)
"""Commands to a driver: the newest one counts. Drivers require nothing more."""

COMMAND_PUBLISHER = _profile(reliable=True, depth=1, deadline=0.1, lifespan=0.1, lease=0.5)
"""Offered beyond that: a command is never delivered late, and a subscriber may watch the stream."""

CONTEXT = _profile(reliable=True, depth=1)
"""Context handles: volatile, since a handle must never be latched."""

CHUNK = _profile(reliable=True, depth=1, deadline=1.0, lifespan=1.0, lease=1.0)
"""Action chunks: the newest one counts, an old one is not delivered, a killed publisher is noticed."""

IMAGINED = _profile(reliable=True, depth=8)
"""Imagined images: all cameras of a chunk come at once."""

EVENT = _profile(reliable=True, depth=100)
"""Typed events: each one counts, from the moment of discovery on."""

EVENT_KEPT = _profile(reliable=True, depth=100, latched=True)
"""Offered: events are kept for a listener that is discovered after them. Requested: those before discovery as well."""

LOCK_STEP = _profile(reliable=True, depth=100, latched=True)
"""Answers to a time: the listener may be discovered after a node has answered, and no time is answered twice."""

ESTOP = _profile(reliable=True, depth=1, latched=True)
"""Emergency stop: the newest word counts, and is heard by a listener that comes after it."""

STATUS = _profile(reliable=True, depth=1)
"""Periodic status of a node."""

SAFETY_STATUS = _profile(reliable=True, depth=1, latched=True, deadline=1.0, lifespan=1.0, lease=1.0)
"""State of the safety node: a late reader gets the newest at once, and never one of a node that has gone."""

STATIC = _profile(reliable=True, depth=1, latched=True)
"""Descriptions that do not change while a node lives (robot description, contract)."""
