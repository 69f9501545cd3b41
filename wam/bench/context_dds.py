# SPDX-License-Identifier: Apache-2.0
"""The two processes of the DDS part of `wam bench context`: publisher (the one started) and subscriber (its child).

The clock is CLOCK_MONOTONIC, one for all processes of a host.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message

from wam.bench.contexts import CODEC, TOKENS_44MB, Payload, make_context, make_payload, use
from wam.bench.result import percentiles
from wam.core.context import Transport
from wam.core.policy import ContextPublisher
from wam.core.transport.inline import InlinePublisher, InlineReader
from wam.core.transport.shared_memory import SharedMemoryPublisher
from wam.ros.context_channel import context_to_message, message_to_context
from wam.ros.qos import CONTEXT
from wam_msgs.msg import KVContext

WARM_UP = 3
TOPIC = "wam_bench/context"


def subscribe() -> None:
    """Print the moment [ns] at which every context that arrives is usable; for a handle, at which it arrived."""
    rclpy.init(args=[])
    node = Node("wam_bench_subscriber")
    reader: InlineReader[Any] = InlineReader(CODEC)

    def store(message: Any) -> None:
        header, handle = message_to_context(message)
        if handle.transport is Transport.INLINE:
            with reader.open(header, handle) as lease:
                use(lease.get().payload)
        print(time.monotonic_ns(), flush=True)

    node.create_subscription(KVContext, TOPIC, store, CONTEXT)
    print("ready", flush=True)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.spin()


def measure(
    topic: Any,
    child: subprocess.Popen[str],
    publisher: ContextPublisher[Payload],
    payload: Payload,
    count: int,
) -> list[float]:
    """Return the times [ms] from publishing the message to its use in the child; INLINE counts the write too."""
    assert child.stdout is not None
    times = []
    for version in range(1, WARM_UP + count + 1):
        context = make_context(version, payload)
        before = time.monotonic_ns()
        handle = publisher.publish(context)
        start = before if publisher.transport is Transport.INLINE else time.monotonic_ns()
        topic.publish(context_to_message(context.header, handle, KVContext))
        times.append((int(child.stdout.readline()) - start) / 1e6)
    return times[WARM_UP:]


def publish(*, tokens: int, notifications: int, inline_hand_overs: int) -> dict[str, float]:
    """Publish handles, then payloads, to a child process and return the results."""
    payload = make_payload(tokens)
    command = [sys.executable, "-m", "wam.bench.context_dds", "subscribe"]
    rclpy.init(args=[])
    node = Node("wam_bench_publisher")
    topic = node.create_publisher(KVContext, TOPIC, CONTEXT)
    handles: SharedMemoryPublisher[Any] = SharedMemoryPublisher(CODEC, owner="/wam_bench_dds")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            while not topic.get_subscription_count():
                rclpy.spin_once(node, timeout_sec=0.05)
            results = percentiles("dds_notify", "ms", measure(topic, child, handles, payload, notifications))
            context = make_context(WARM_UP + notifications + 1, payload)
            message = context_to_message(context.header, handles.publish(context), KVContext)
            results["context_message_bytes"] = len(serialize_message(message))
            inline: InlinePublisher[Any] = InlinePublisher(CODEC)
            return results | percentiles(
                "inline_44mb", "ms", measure(topic, child, inline, payload, inline_hand_overs)
            )
        finally:
            child.kill()
            handles.close()
            rclpy.try_shutdown()


def main() -> None:
    """Print the results as one line of JSON, or subscribe where the first argument says so."""
    parser = argparse.ArgumentParser(description="DDS part of wam bench context")
    parser.add_argument("role", choices=["publish", "subscribe"])
    parser.add_argument("--tokens", type=int, default=TOKENS_44MB)
    parser.add_argument("--notifications", type=int, default=200)
    parser.add_argument("--inline", type=int, default=12)
    arguments = parser.parse_args()
    if arguments.role == "subscribe":
        subscribe()
        return
    results = publish(
        tokens=arguments.tokens, notifications=arguments.notifications, inline_hand_overs=arguments.inline
    )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
