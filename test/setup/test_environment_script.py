# SPDX-License-Identifier: Apache-2.0
"""tools/setup/env.sh keeps a sourced ROS distribution out and gives every checkout a ROS domain of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(script: Path, environment: dict[str, str]) -> dict[str, str]:
    """Return the environment in which the script starts a command."""
    done = subprocess.run(
        ["bash", str(script), "env", "-0"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)


def here(environment: dict[str, str]) -> dict[str, str]:
    return run(ROOT / "tools" / "setup" / "env.sh", environment)


def test_ros_stays_on_this_machine_with_the_shipped_profile() -> None:
    found = here({})
    assert found["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert 1 <= int(found["ROS_DOMAIN_ID"]) <= 101
    assert Path(found["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()
    assert found["AMENT_PREFIX_PATH"] == str(ROOT / ".venv")


def test_the_domain_of_a_lab_is_not_used_unless_chosen() -> None:
    """A simulated arm on the domain of a real one would publish on the real one's topics."""
    plain = here({})["ROS_DOMAIN_ID"]
    assert here({"ROS_DOMAIN_ID": "42" if plain != "42" else "43"})["ROS_DOMAIN_ID"] == plain
    assert here({"WAM_DOMAIN_ID": "42"})["ROS_DOMAIN_ID"] == "42"


def test_checkouts_get_different_domains(tmp_path: Path) -> None:
    domains = set()
    for name in ("one", "two", "three", "four", "a folder with spaces"):
        script = tmp_path / name / "tools" / "setup" / "env.sh"
        script.parent.mkdir(parents=True)
        shutil.copy(ROOT / "tools" / "setup" / "env.sh", script)
        domains.add(run(script, {})["ROS_DOMAIN_ID"])
    assert len(domains) > 1


def test_a_sourced_distribution_and_another_environment_are_left_out() -> None:
    found = here(
        {
            "AMENT_PREFIX_PATH": "/home/me/ws/install/mine:/opt/ros/jazzy",
            "PYTHONPATH": "/opt/ros/jazzy/lib/python3.12/site-packages",
            "LD_LIBRARY_PATH": "/opt/ros/jazzy/lib:/home/me/ws/install/mine/lib:/usr/local/cuda/lib64",
            "VIRTUAL_ENV": "/home/me/other",
            "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
            "ROS_DISTRO": "jazzy",
            "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
        }
    )
    assert found["LD_LIBRARY_PATH"] == "/usr/local/cuda/lib64"
    assert found["RMW_IMPLEMENTATION"] == "rmw_fastrtps_cpp"
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "ROS_DISTRO", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"} & set(found)


def test_compiled_modules_are_kept_on_disk() -> None:
    """Containers forbid it, and every process of a test or a demo then compiled the whole suite again."""
    assert "PYTHONDONTWRITEBYTECODE" not in here({"PYTHONDONTWRITEBYTECODE": "1"})


def test_a_library_path_of_nothing_but_ros_disappears() -> None:
    """An empty LD_LIBRARY_PATH means the working directory to the loader."""
    assert "LD_LIBRARY_PATH" not in here({"LD_LIBRARY_PATH": "/opt/ros/jazzy/lib:"})


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_of_the_command_comes_through(code: int) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "tools" / "setup" / "env.sh"), "sh", "-c", f"exit {code}"], check=False
    )
    assert done.returncode == code
