# SPDX-License-Identifier: Apache-2.0
"""Copies of a bag with each message replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from wam.core.clock import NS_PER_S
from wam.data.bag.reading import Recording
from wam.data.bag.stamps import BagMessage

STORE = get_typestore(Stores.ROS2_JAZZY)


def rewritten(source: Path, out: Path, change: Callable[[BagMessage], Iterable[BagMessage]]) -> Path:
    """Write a copy of a bag with each message replaced by what `change` gives for it."""
    connections: dict[tuple[str, str], Any] = {}
    with Recording(source) as recording, Writer(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        given = (one for m in recording.messages([t.name for t in recording.topics]) for one in change(m))
        for message in sorted(given, key=lambda one: one.receive_ns):
            key = message.topic, message.msgtype
            if key not in connections:
                connections[key] = writer.add_connection(*key, typestore=STORE)
            if message.stamp_ns is not None and hasattr(message.message, "header"):
                stamp = message.message.header.stamp
                stamp.sec, stamp.nanosec = divmod(message.stamp_ns, NS_PER_S)
            writer.write(
                connections[key], message.receive_ns, STORE.serialize_cdr(message.message, message.msgtype)
            )
    return out
