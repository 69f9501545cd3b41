# SPDX-License-Identifier: Apache-2.0
"""`wam bench replay`: speed of a replay, of its decoding beside plain rosbags + OpenCV, and its memory.

Every part runs in its own process on one core, on a bag that is generated for it.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from wam.bench import Announce
from wam.bench.result import Bar, BenchResult
from wam.core.errors import WamError

BARS = {
    "replay_realtime_factor": Bar(10.0, "min"),
    "replay_with_page_realtime_factor": Bar(8.0, "min"),
    "replay_decode_ratio": Bar(0.9, "min"),
    "replay_peak_rss_mb": Bar(600.0),
}
SECONDS = 60.0
DECODE_SECONDS = 20.0
DECODE_ROUNDS = 5
ROUNDS = 3
BIG_BYTES = 2_000_000_000
HEIGHT, WIDTH, RATE = 480, 640, 30.0
TEXTURE = 5.0
"""Grain that makes the images as large as those of a camera (about 65 kB)."""
FREE_NEEDED = 1.2 * BIG_BYTES


def run(stage: Announce) -> BenchResult:
    """Measure speed, decoding and memory.

    Raises:
        WamError: a part failed, or there is no space for the 2 GB bag.
    """
    folder = Path(tempfile.mkdtemp(prefix="wam-bench-replay-"))
    try:
        free = shutil.disk_usage(folder).free
        if free < FREE_NEEDED:
            raise WamError(
                f"no space for a 2 GB bag in {folder.parent}",
                value=f"{free / 1e9:.1f} GB free",
                allowed=f"{FREE_NEEDED / 1e9:.1f} GB",
                where="the environment variable TMPDIR",
            )
        stage("generating 60 s of 640x480 JPEG at 30 Hz")
        results = _part("speed", folder)
        stage("decoding, compared with rosbags + OpenCV")
        results |= _part("decode", folder)
        stage("generating and replaying a 2 GB bag")
        results |= _part("memory", folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    notes = (
        "replay_realtime_factor: from opening the bag to summary.json, fake policy, one core, --no-page; with videos "
        f"and index.html it is {results['replay_with_page_realtime_factor']}; in CPU time, which excludes other load, "
        f"{results['replay_processor_realtime_factor']} and {results['replay_with_page_processor_realtime_factor']}; "
        f"the best of {ROUNDS} rounds each",
        "replay_decode_ratio: reading in stamp order and decoding every image, against AnyReader + imdecode, "
        "in CPU time; replay_ingest_ratio: with ingest and observations as well",
    )
    return BenchResult(results=results, bars=BARS, notes=notes)


def _part(name: str, folder: Path) -> dict[str, float]:
    """Run one part in its own process and return its results."""
    command = [sys.executable, "-m", "wam.bench.replay", name, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise WamError(f"bench replay: part {name} failed", value=lines[-1] if lines else "no message")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def measure_speed(folder: Path, *, seconds: float = SECONDS) -> dict[str, float]:
    """Replay a generated bag with the fake policy, by turns without and with a page."""
    from wam.data.fakes import fake_robot, write_fake_bag
    from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
    from wam.evaluation.replay.session import replay
    from wam.runtime.policy import PolicyRequest, load_fake

    robot = fake_robot(joints=14, height=HEIGHT, width=WIDTH)
    bag = folder / "speed"
    write_fake_bag(bag, robot=robot, seconds=seconds, rate=RATE, texture=TEXTURE)
    policy = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=robot)
    settings = ReplaySettings(
        planner_latency_ns=100_000_000, executor_latency_ns=50_000_000, planner_period_ns=0
    )
    walls: dict[bool, list[float]] = {False: [], True: []}
    processors: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for page in (False, True):
            options = ReplayOptions(bag=bag, policy_name="fake", settings=settings, page=page)
            gc.collect()
            started, started_cpu = time.perf_counter(), time.process_time()
            outcome = replay(options, robot=robot, policy=policy, report=folder / "report")
            walls[page].append(time.perf_counter() - started)
            processors[page].append(time.process_time() - started_cpu)
    shutil.rmtree(bag)
    # The fastest round of each: other load on the machine can only slow a round down.
    return {
        "replay_realtime_factor": round(seconds / min(walls[False]), 2),
        "replay_processor_realtime_factor": round(seconds / min(processors[False]), 2),
        "replay_with_page_realtime_factor": round(seconds / min(walls[True]), 2),
        "replay_with_page_processor_realtime_factor": round(seconds / min(processors[True]), 2),
        "replay_chunks": outcome.summary["metrics"]["chunks"],
    }


def measure_decoding(folder: Path, *, seconds: float = DECODE_SECONDS) -> dict[str, float]:
    """Decode every image of a bag, by turns through this package and through plain rosbags + OpenCV."""
    from wam.data.fakes import fake_robot, write_fake_bag

    robot = fake_robot(joints=14, height=HEIGHT, width=WIDTH)
    bag = folder / "decode"
    write_fake_bag(bag, robot=robot, seconds=seconds, rate=RATE, texture=TEXTURE)
    ours: list[float] = []
    plain: list[float] = []
    whole: list[float] = []
    for _ in range(DECODE_ROUNDS):
        for times, decode in ((plain, _decode_plainly), (ours, _decode), (whole, _decode_through_ingest)):
            gc.collect()
            # CPU time: on a busy machine wall time would include other processes.
            started = time.process_time()
            count = decode(bag, robot)
            times.append((time.process_time() - started) / count)
    shutil.rmtree(bag)
    # The fastest round of each: other load on the machine can only slow a round down.
    return {
        "replay_decode_ratio": round(min(plain) / min(ours), 3),
        "replay_decode_images_per_s": round(1.0 / min(ours), 1),
        "plain_decode_images_per_s": round(1.0 / min(plain), 1),
        "replay_ingest_ratio": round(min(plain) / min(whole), 3),
    }


def measure_memory(folder: Path, *, size: int = BIG_BYTES) -> dict[str, float]:
    """Replay a bag of raw images that is larger than memory should ever get."""
    from wam.data.fakes import fake_robot, write_fake_bag
    from wam.robots.camera_spec import CameraTransport

    robot = fake_robot(joints=14, height=HEIGHT, width=WIDTH, transport=CameraTransport.RAW)
    bag = folder / "big"
    write_fake_bag(bag, robot=robot, seconds=size / (HEIGHT * WIDTH * 3 * RATE), rate=RATE)
    written = sum(file.stat().st_size for file in bag.iterdir())
    # Writing must not count: the replay runs in its own process.
    command = [sys.executable, "-m", "wam.bench.replay", "replay-big", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.rmtree(bag)
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "replay_bag_gb": round(written / 1e9, 2)}


def replay_big(folder: Path) -> dict[str, float]:
    """Replay the big bag that `measure_memory` wrote and return this process's peak memory."""
    from wam.data.fakes import fake_robot
    from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
    from wam.evaluation.replay.session import replay
    from wam.robots.camera_spec import CameraTransport
    from wam.runtime.policy import PolicyRequest, load_fake

    robot = fake_robot(joints=14, height=HEIGHT, width=WIDTH, transport=CameraTransport.RAW)
    policy = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=robot)
    settings = ReplaySettings(
        planner_latency_ns=100_000_000, executor_latency_ns=50_000_000, planner_period_ns=0
    )
    options = ReplayOptions(bag=folder / "big", policy_name="fake", settings=settings)
    replay(options, robot=robot, policy=policy, report=folder / "big-report")
    return {"replay_peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}


def _decode(bag: Path, robot: Any) -> int:
    """Read every message through `Recording` and decode every image as the ingest does; return their number."""
    from wam.data.bag.reading import Recording
    from wam.robots.images import decode_image

    camera, group = robot.cameras[0], robot.groups[0]
    image_topic, joint_topic = f"/{camera.topic}", f"/{group.state_topic}"
    size = (camera.height, camera.width)
    count = 0
    with Recording(bag) as recording:
        for message in recording.messages([image_topic, joint_topic]):
            if message.topic == image_topic:
                decode_image(message.message, camera=camera.name, size=size)
                count += 1
    return count


def _decode_through_ingest(bag: Path, robot: Any) -> int:
    """Read every message through `Recording` into an ingest and use every image; return the number of images."""
    from wam.core.errors import StaleObservation
    from wam.data.bag.reading import Recording
    from wam.runtime.ingest.ingest import StreamIngest

    camera, group = robot.cameras[0], robot.groups[0]
    image_topic, joint_topic = f"/{camera.topic}", f"/{group.state_topic}"
    ingest = StreamIngest(robot, cameras=(camera.name,))
    count = 0
    with Recording(bag) as recording:
        for message in recording.messages([image_topic, joint_topic]):
            if message.topic == joint_topic:
                ingest.put_joint_state(group.name, message.message)
                continue
            ingest.put_image(camera.name, message.message)
            try:
                ingest.assemble(now_ns=message.time_ns)
            except StaleObservation:
                continue
            count += 1
    return count


def _decode_plainly(bag: Path, robot: Any) -> int:
    """Read the same messages with rosbags and decode with OpenCV, as a script would; return the number of images."""
    import cv2
    import numpy as np
    from rosbags.highlevel import AnyReader

    camera, group = robot.cameras[0], robot.groups[0]
    wanted = {f"/{camera.topic}", f"/{group.state_topic}"}
    convert: Any = cv2.cvtColor
    count = 0
    with AnyReader([bag]) as reader:
        connections = [connection for connection in reader.connections if connection.topic in wanted]
        for connection, _, raw in reader.messages(connections=connections):
            message: Any = reader.deserialize(raw, connection.msgtype)
            if connection.topic == f"/{camera.topic}":
                convert(cv2.imdecode(message.data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
                count += 1
            else:
                np.asarray(message.position)
    return count


def main() -> None:
    """Run one part and print its results as JSON."""
    import cv2

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    parts = {
        "speed": measure_speed,
        "decode": measure_decoding,
        "memory": measure_memory,
        "replay-big": replay_big,
    }
    print(json.dumps(parts[sys.argv[1]](Path(sys.argv[2]))))


if __name__ == "__main__":
    main()
