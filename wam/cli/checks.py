# SPDX-License-Identifier: Apache-2.0
"""The checks of `wam doctor`: each examines one thing and suggests a fix."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from wam.cli.machine_check import Check, Outcome
from wam.cli.realtime_checks import realtime_checks
from wam.cli.timing_checks import clock_check, realtime_check
from wam.core.transport.identity import is_alive
from wam.core.transport.segment import SHM_DIRECTORY, SegmentName
from wam.ros.environment import MAX_DOMAIN_ID, OLD_PROFILE, PROFILE, images_remedy, network_of
from wam.sim.gl import rendering_remedy

GIB = 2**30
MIN_SHM_BYTES = 512 * 2**20
"""Three contexts of the paper's AHA-WAM at one history frame (44 MB each) and the images of a few cameras."""
MIN_DISK_BYTES = 3 * GIB
MIN_MEMORY_BYTES = 4 * GIB
PROBES = str(Path(__file__).resolve().with_name("probes.py"))
PROBE_TIMEOUT_S = 60.0
NO_ANSWER = "no answer within"
OPTIONAL_ROS_PARTS = {
    "launch": "launch",
    "launch_ros": "launch-ros",
    "cv_bridge": "cv-bridge",
    "control_msgs": "control-msgs",
    "moveit_msgs": "moveit-msgs",
    "moveit": "moveit-py",
    "tf2_ros": "tf2-ros-py",
}
"""Python modules that only a ROS distribution has, with the suffix of their Debian package after `ros-DISTRO-`."""


def python_check() -> Check:
    """Check the interpreter and its environment."""
    found = f"{platform.python_version()} in {sys.prefix}"
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        return Check("python", Outcome.FAIL, found, "use Python 3.10-3.13: make setup PYTHON=python3.12")
    return Check("python", Outcome.OK, found)


def mixture_check(environment: Mapping[str, str]) -> Check:
    """Check that no second ROS installation leaks into this one."""
    name = "environment"
    own = _has_wheels()
    foreign = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if "/opt/ros/" in path]
    foreign += [
        path
        for path in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
        if path.startswith("/opt/ros/")
    ]
    if own and foreign:
        return Check(
            name,
            Outcome.FAIL,
            f"ROS 2 of {sys.prefix} and of {foreign[0]} at once",
            "open a shell without a sourced distribution, or run through make or tools/setup/env.sh",
        )
    return Check(name, Outcome.OK, f"ROS 2 from {'wheels' if own else 'a distribution'}")


def network_check(environment: Mapping[str, str]) -> Check:
    """Say on which domain, how far and through which profile ROS talks here, as the shell and ROS have it.

    Raises:
        ConfigError: the domain or the range has no legal value.
    """
    name = "ROS network"
    network = network_of(environment)
    if network.profile and not Path(network.profile).is_file():
        return Check(
            name,
            Outcome.FAIL,
            f"Fast DDS profile {network.profile} does not exist",
            f"unset {PROFILE if environment.get(PROFILE) else OLD_PROFILE}",
        )
    remedies = []
    if network.domain[0] == 0:
        remedies.append(
            "every ROS 2 process that was told nothing is on domain 0; launch files refuse it: "
            f"export ROS_DOMAIN_ID=42, or another of 1..{MAX_DOMAIN_ID}, for drivers and tools as well"
        )
    outcome = Outcome.WARN if remedies else Outcome.OK
    if network.drops_images:
        remedies.append(images_remedy(network))
    return Check(name, outcome, str(network), "\n".join(remedies))


def ros_checks(environment: Mapping[str, str]) -> list[Check]:
    """Check rclpy and send a message over DDS."""
    if importlib.util.find_spec("rclpy") is None:
        remedy = "make setup, or source a ROS 2 distribution"
        return [Check("rclpy", Outcome.FAIL, "not installed", remedy)]
    answer, error = probe("ros", environment)
    if answer is None:
        return [
            Check(
                "rclpy",
                Outcome.FAIL,
                error,
                _remedy_of(error, "make clean && make setup; or source one distribution only"),
            )
        ]
    version = _version("ros-rclpy") or _version("rclpy") or "unknown version"
    checks = [Check("rclpy", Outcome.OK, f"{version}, {answer['rmw']}, {answer['rclpy']}")]
    if answer["arrived"]:
        checks.append(Check("dds", Outcome.OK, f"message round trip in {answer['round_trip_ms']} ms"))
    else:
        remedy = "check for a firewall on the loopback interface and for a full /dev/shm"
        checks.append(Check("dds", Outcome.FAIL, "a message sent to this process was not received", remedy))
    return checks


def messages_check(environment: Mapping[str, str]) -> Check:
    """Check that wam_msgs is built."""
    answer, error = probe("messages", environment)
    if answer is None:
        return Check("wam_msgs", Outcome.FAIL, error, "make setup, or tools/colcon_build.sh")
    return Check("wam_msgs", Outcome.OK, f"{len(answer['messages'])} messages in {answer['place']}")


def torch_check(environment: Mapping[str, str]) -> Check:
    """Check torch and the GPU."""
    answer, error = probe("torch", environment)
    if answer is None:
        return Check("torch", Outcome.FAIL, error, _remedy_of(error, "make setup"))
    devices = ", ".join(answer["devices"]) or "no GPU"
    found = f"{answer['version']}, {answer['threads']} threads, {devices}"
    if not answer["devices"] and Path("/proc/driver/nvidia/version").exists():
        remedy = (
            "this torch cannot use the NVIDIA GPU of this machine: make clean && make setup WAM_TORCH=cuda"
        )
        return Check("torch", Outcome.WARN, found, remedy)
    return Check("torch", Outcome.OK, found)


def render_check(environment: Mapping[str, str]) -> Check:
    """Render a small image without a display."""
    answer, error = probe("render", environment)
    if answer is None:
        helps = rendering_remedy(environment)
        sudo = "sudo " if helps.startswith("apt") else ""
        return Check("rendering", Outcome.WARN, error, f"{sudo}{helps} (only simulated cameras need it)")
    found = f"MuJoCo {answer['version']}, {answer['backend']}, {answer['render_ms']} ms for a small image"
    if not answer["red"]:
        return Check(
            "rendering", Outcome.WARN, f"{found}, of the wrong colour", "try another driver: MUJOCO_GL=osmesa"
        )
    return Check("rendering", Outcome.OK, found)


def compiler_check() -> Check:
    """Check for the tools that build wam_msgs."""
    missing = [
        package
        for package, programs in (("g++", ("c++", "g++", "clang++")), ("cmake", ("cmake",)))
        if not any(shutil.which(program) for program in programs)
    ]
    if missing:
        return Check(
            "compiler",
            Outcome.WARN,
            f"missing: {', '.join(missing)}",
            f"sudo apt install {' '.join(missing)}",
        )
    return Check(
        "compiler", Outcome.OK, f"{shutil.which('c++') or shutil.which('g++')}, {shutil.which('cmake')}"
    )


def shared_memory_check(directory: Path = SHM_DIRECTORY) -> Check:
    """Check the free shared memory for planner contexts and images, and what dead processes left there."""
    name = "shared memory"
    if not directory.is_dir():
        return Check(
            name, Outcome.FAIL, f"{directory} does not exist", "mount it: sudo mount -t tmpfs tmpfs /dev/shm"
        )
    usage = shutil.disk_usage(directory)
    segments = [parsed for entry in os.listdir(directory) if (parsed := SegmentName.parse(entry)) is not None]
    dead = [s for s in segments if s.uid == os.geteuid() and not is_alive(s.owner)]
    found = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free, {len(segments)} context segments"
    if usage.free < MIN_SHM_BYTES:
        return Check(name, Outcome.WARN, found, "free space in /dev/shm (docker: --shm-size=2g)")
    if dead:
        return Check(
            name, Outcome.WARN, f"{found}, {len(dead)} of dead planners", "the next planner removes them"
        )
    return Check(name, Outcome.OK, found)


def optional_check(environment: Mapping[str, str]) -> Check:
    """Look for the optional parts that only a ROS distribution has."""
    have = [name for name in OPTIONAL_ROS_PARTS if importlib.util.find_spec(name) is not None]
    lack = [name for name in OPTIONAL_ROS_PARTS if name not in have]
    found = f"found: {', '.join(have) or 'none'}; not found: {', '.join(lack) or 'none'}"
    distribution = environment.get("ROS_DISTRO", "")
    remedy = ""
    if lack and distribution:
        remedy = "optional: sudo apt install " + " ".join(
            f"ros-{distribution}-{OPTIONAL_ROS_PARTS[name]}" for name in lack
        )
    return Check("optional ROS parts", Outcome.OK, found, remedy)


def processor_check() -> Check:
    """Check cores and load."""
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    found = f"{cores} cores, load {load:.1f}"
    if cores < 2:
        return Check("processor", Outcome.WARN, found, "planner, executor and safety need two or more cores")
    if load > cores:
        return Check(
            "processor", Outcome.WARN, found, "other programs keep the cores busy; latencies will be high"
        )
    return Check("processor", Outcome.OK, found)


def memory_check() -> Check:
    """Check the available memory."""
    text = Path("/proc/meminfo").read_text()
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    free = int(match[1]) * 1024 if match else 0
    found = f"{free / GIB:.1f} GiB available"
    if free < MIN_MEMORY_BYTES:
        return Check(
            "memory", Outcome.WARN, found, "a demo needs 4 GiB, a released checkpoint more than its own size"
        )
    return Check("memory", Outcome.OK, found)


def disk_check(place: Path) -> Check:
    """Check the disk space for reports and bundles."""
    usage = shutil.disk_usage(place)
    found = f"{usage.free / GIB:.1f} GiB free in {place}"
    if usage.free < MIN_DISK_BYTES:
        return Check("disk", Outcome.WARN, found, "reports, bags and bundles need several GiB")
    return Check("disk", Outcome.OK, found)


def robot_checks(robot: str, environment: Mapping[str, str]) -> list[Check]:
    """Listen to the drivers of `robot` and report the state of each joint group.

    Raises:
        ConfigError: there is no such robot.
    """
    from wam.devices.doctor import examine

    outcomes = {"READY": Outcome.OK, "DEGRADED": Outcome.WARN, "WAITING": Outcome.WARN}
    return [
        Check(
            f"{robot}: {report.group}",
            outcomes.get(report.state.readiness.name, Outcome.FAIL),
            f"{report.state.code}: {report.state.text}",
            report.remedy,
        )
        for report in examine(robot, environment)
    ]


def all_checks(environment: Mapping[str, str]) -> list[Callable[[], list[Check]]]:
    """Return the checks in the order of the report; each takes no arguments."""
    return [
        lambda: [python_check()],
        lambda: [mixture_check(environment)],
        lambda: [network_check(environment)],
        lambda: ros_checks(environment),
        lambda: [messages_check(environment)],
        lambda: [torch_check(environment)],
        lambda: [render_check(environment)],
        lambda: [compiler_check()],
        lambda: [shared_memory_check()],
        lambda: [optional_check(environment)],
        lambda: [processor_check()],
        lambda: [realtime_check()],
        realtime_checks,
        lambda: [clock_check()],
        lambda: [memory_check()],
        lambda: [disk_check(Path.cwd())],
    ]


def probe(name: str, environment: Mapping[str, str]) -> tuple[dict[str, Any] | None, str]:
    """Run a probe of `wam.cli.probes` in its own process.

    Returns:
        Its answer and "", or None and the error in one line.
    """
    # By its path and from another folder: beside the checkout, wam_msgs would be found without being built.
    code = f"import runpy, sys; sys.argv[1:] = [{name!r}]; runpy.run_path({PROBES!r}, run_name='__main__')"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT_S,
            env=dict(environment),
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return None, f"{NO_ANSWER} {PROBE_TIMEOUT_S:.0f} s"
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        if done.returncode < 0:
            return None, f"crashed with signal {-done.returncode}"
        return None, lines[-1].strip() if lines else f"exited with code {done.returncode}"
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer, ""


def _remedy_of(error: str, remedy: str) -> str:
    """Return what helps against a probe's error: a new installation does not make a busy machine faster."""
    if error.startswith(NO_ANSWER):
        return "a busy machine or a slow disk: call it again, with less running beside it"
    return remedy


def _has_wheels() -> bool:
    """Return whether this environment brings its own ROS 2."""
    return _version("ros-rclpy") is not None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
