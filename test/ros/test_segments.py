# SPDX-License-Identifier: Apache-2.0
"""Who can read the shared memory in which images and chunks lie."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import Image
from waiting import wait_until

from wam.ros.segments import close_segments, private_segments, sweep_segments
from wam.stack.processes import NodeProcess, NodeSpec

pytestmark = pytest.mark.ros

SHM = Path("/dev/shm")
SEGMENT = re.compile(r"(fastdds|fastrtps)_[0-9a-f]{16}")
"""Where messages lie; the files of ports hold none, and a process maps those of its peers as well."""


def modes(pid: int | str) -> dict[str, int]:
    """Return the mode of every segment of this user that the process has mapped."""
    names = {
        line.rpartition("/")[2]
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
        if "/dev/shm/" in line
    }
    found = {}
    for name in names:
        path = SHM / name
        if SEGMENT.fullmatch(name) and path.exists() and path.stat().st_uid == os.geteuid():
            found[name] = stat.S_IMODE(path.stat().st_mode)
    return found


def segments() -> set[str]:
    """Return every segment there is; a process also maps those of its peers, which are not its own."""
    return {path.name for path in SHM.glob("fast*") if SEGMENT.fullmatch(path.name)}


def test_a_node_of_the_suite_shares_its_segments_with_no_other_user(tmp_path: Path) -> None:
    """Fast DDS gives them mode 0644 whatever the umask: every user of the computer could read the images."""
    spec = NodeSpec("gate", "wam_bringup.gate", {"wam_gate": {"nodes": ["wam_nobody"]}})
    before = segments()
    process = NodeProcess(spec, log_dir=tmp_path, environment=os.environ)
    try:

        def private() -> bool:
            assert process.exit_code() is None, process.log_tail()
            found = {mode for name, mode in modes(process.pid).items() if name not in before}
            return found == {0o600}

        wait_until(private, "segments that only this user can read", turn=lambda: time.sleep(0.05))
    finally:
        process.kill()


def test_nodes_made_in_the_block_have_private_segments() -> None:
    before = os.umask(0o022)
    try:
        with private_segments():
            context = Context()
            rclpy.init(context=context, args=[])
            node = Node("private", context=context)
            node.create_publisher(Image, "image", 1)
        found = modes("self")
        assert set(found.values()) == {0o600}
        node.destroy_node()
        rclpy.try_shutdown(context=context)
        assert os.umask(0o022) == 0o022, "the umask of the process is as before"
    finally:
        os.umask(before)


def test_only_own_files_of_fast_dds_are_touched(tmp_path: Path) -> None:
    ours, other, elsewhere = tmp_path / "fastdds_1", tmp_path / "wam_other", tmp_path / "deep" / "fastdds_2"
    elsewhere.parent.mkdir()
    for path in (ours, other, elsewhere):
        path.touch(0o644)
        path.chmod(0o644)
    link = tmp_path / "fastdds_link"
    link.symlink_to(other)
    lines = [
        f"7f0-7f1 rw-s 00000000 00:01 5    {path}"
        for path in (ours, other, elsewhere, tmp_path / "fastdds_gone")
    ]
    maps = tmp_path / "maps"
    maps.write_text(
        "\n".join([*lines, "7f2-7f3 rw-p 00000000 00:00 0", "7f4-7f5 rw-p 00000000 00:00 0  [heap]"])
    )
    assert close_segments(maps, folder=tmp_path) == (ours,)
    assert stat.S_IMODE(ours.stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in (other, elsewhere)} == {0o644}


def test_a_machine_without_a_memory_map_has_nothing_to_close(tmp_path: Path) -> None:
    assert close_segments(tmp_path / "none") == ()


def segment(folder: Path, number: int) -> tuple[Path, Path]:
    """Make a segment and the file of its lock, both old."""
    data = folder / f"fastdds_{number:016x}"
    lock = data.with_name(data.name + "_el")
    for path in (data, lock):
        path.touch()
        os.utime(path, (0, 0))
    return data, lock


def test_segments_whose_owner_has_died_are_removed_and_no_others(tmp_path: Path) -> None:
    """A node that is killed left 0.5 to 36 MB in /dev/shm, until it was full."""
    dead, living, young = (segment(tmp_path, number) for number in (1, 2, 3))
    os.utime(young[1])
    other = tmp_path / "wam_ctx.0_el"
    other.touch()
    with living[1].open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert sweep_segments(tmp_path) == (dead[0].name,)
    assert set(tmp_path.iterdir()) == {*living, *young, other}


@pytest.mark.alone  # any node that starts on this machine sweeps
def test_a_living_node_keeps_its_segments_and_a_killed_one_does_not(tmp_path: Path) -> None:
    spec = NodeSpec("gate", "wam_bringup.gate", {"wam_gate": {"nodes": ["wam_nobody"]}})
    before = segments()
    process = NodeProcess(spec, log_dir=tmp_path, environment=os.environ)
    own: set[str] = set()
    try:

        def has_segments() -> bool:
            assert process.exit_code() is None, process.log_tail()
            own.update(modes(process.pid).keys() - before)
            return bool(own)

        wait_until(has_segments, "segments", turn=lambda: time.sleep(0.05))
        for name in own:
            os.utime(SHM / f"{name}_el", (0, 0))
        assert not own & set(sweep_segments())
        assert all((SHM / name).exists() for name in own)
    finally:
        process.kill()
    assert own <= set(sweep_segments())
    assert not any((SHM / name).exists() for name in own)
