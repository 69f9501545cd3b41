# SPDX-License-Identifier: Apache-2.0
"""Domain, range, DDS profile and keys of what a launch file starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch_walk import LAUNCH_FILES, ROBOTS, ROOT, environments, launched, variables

from wam.core.errors import ConfigError
from wam.devices.loader import load_robot
from wam_bringup.launch_schema import BOOLEAN


@pytest.fixture
def environment_of_launch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The variables that a launch file reads, as in a shell that was told nothing."""
    for name in (
        "ROS_DOMAIN_ID",
        "ROS_AUTOMATIC_DISCOVERY_RANGE",
        "FASTDDS_DEFAULT_PROFILES_FILE",
        "CYCLONEDDS_URI",
        "WAM_ALLOW_DOMAIN_0",
    ):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_a_launch_file_refuses_domain_0_and_says_what_to_set(
    path: Path, environment_of_launch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = {"launch_driver": "false", "bag": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"export ROS_DOMAIN_ID=42.*allow_domain_0:=true"):
        variables(path, **arguments)
    variables(path, allow_domain_0="true", **arguments)
    environment_of_launch.setenv("ROS_DOMAIN_ID", "42")
    variables(path, **arguments)


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_a_launch_file_stays_on_this_machine_unless_the_user_chose_the_subnet(
    path: Path, environment_of_launch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It set a Fast DDS profile alone: another middleware searched the subnet on domain 0."""
    environment_of_launch.setenv("ROS_DOMAIN_ID", "42")
    arguments = {"launch_driver": "false", "bag": str(tmp_path)}
    found, _, said = environments(path, **arguments)
    assert found["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert "127.0.0.1" in found["CYCLONEDDS_URI"]
    assert "ROS domain 42 (ROS_DOMAIN_ID), range LOCALHOST" in said.splitlines()[0]
    environment_of_launch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    environment_of_launch.delenv("CYCLONEDDS_URI")
    assert variables(path, **arguments)["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"


PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("reach", ["LOCALHOST", "SUBNET"])
def test_on_hardware_the_dds_profile_is_the_shells_and_images_are_not_lost_in_silence(
    robot: str, reach: str, environment_of_launch: pytest.MonkeyPatch
) -> None:
    """The suite's profile was set for every process: a driver on another PC was invisible."""
    environment_of_launch.setenv("ROS_DOMAIN_ID", "42")
    environment_of_launch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", reach)
    path = ROOT / "launch" / f"{robot}.launch.py"
    found, single, said = environments(path, launch_driver="false")
    assert PROFILE not in found
    assert {Path(extra[PROFILE]).name for _, extra in single} == {"fastdds_types.xml"}, (
        "transports as they are"
    )
    file = "fastdds_shm.xml" if reach == "LOCALHOST" else "fastdds_subnet.xml"
    assert [line for line in said.splitlines() if "loses most 640x480 images" in line and file in line]
    environment_of_launch.setenv(PROFILE, "/etc/mine.xml")
    _, single, said = environments(path, launch_driver="false")
    assert "640x480" not in said
    assert not [name for name, extra in single if PROFILE in extra]


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_simulated_robot_gets_the_suites_profile_unless_the_shell_names_one(
    robot: str, environment_of_launch: pytest.MonkeyPatch
) -> None:
    environment_of_launch.setenv("ROS_DOMAIN_ID", "42")
    path = ROOT / "launch" / f"{robot}.launch.py"
    _, single, said = environments(path, simulate="true")
    assert {Path(extra[PROFILE]).name for _, extra in single} == {"fastdds_shm.xml"}
    assert "640x480" not in said
    environment_of_launch.setenv(PROFILE, "/etc/mine.xml")
    assert not [name for name, extra in environments(path, simulate="true")[1] if PROFILE in extra]


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_a_dds_profile_that_is_asked_for_is_the_suites_processes_alone(
    path: Path, environment_of_launch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A profile of the user's was replaced, for the vendor's processes as well."""
    environment_of_launch.setenv("ROS_DOMAIN_ID", "42")
    mine, other = tmp_path / "mine.xml", tmp_path / "other.xml"
    mine.touch()
    other.touch()
    arguments = {"launch_driver": "false", "bag": str(tmp_path)}
    environment_of_launch.setenv(PROFILE, str(mine))
    found, single, _ = environments(path, dds_profile=str(other), **arguments)
    assert found[PROFILE] == str(mine)
    assert {extra[PROFILE] for _, extra in single} == {str(other)}
    _, single, _ = environments(path, dds_profile="suite", **arguments)
    assert {Path(extra[PROFILE]).name for _, extra in single} == {"fastdds_shm.xml"}
    with pytest.raises(
        ConfigError, match=r"dds_profile: got '/gone\.xml'; allowed: an existing Fast DDS profile, or suite"
    ):
        variables(path, dds_profile="/gone.xml", **arguments)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of every robot for domain 42."""
    pytest.importorskip("cryptography", reason="cryptography is not installed (requirements/security.txt)")
    from wam.ros.security.keystore import write_keystore

    root = tmp_path_factory.mktemp("keys") / "keystore"
    for robot in ROBOTS:
        write_keystore(root, load_robot(robot), domain=42)
    return root


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("composed", BOOLEAN)
def test_with_a_keystore_every_process_gets_its_own_key_and_must_use_it(
    robot: str, composed: str, keystore: Path, environment_of_launch: pytest.MonkeyPatch
) -> None:
    environment_of_launch.setenv("ROS_DOMAIN_ID", "42")
    for name in ("ENABLE", "STRATEGY", "KEYSTORE"):
        environment_of_launch.setenv(f"ROS_SECURITY_{name}", "")
    path = ROOT / "launch" / f"{robot}.launch.py"
    arguments = {
        "launch_driver": "false",
        "composed": composed,
        "secure": "true",
        "keystore": str(keystore),
        "hand_device": "jtc" if robot == "ur5e_inspire" else "",
    }
    nodes, _ = launched(path, **arguments)
    for node in nodes:
        texts = [
            "".join(getattr(part, "text", "") for part in given)
            for given in node.cmd
            if isinstance(given, list)
        ]
        enclave = texts[texts.index("--enclave") + 1]
        assert enclave == f"/{robot}/{node.node_executable.removesuffix('_node')}"
        assert (keystore / "enclaves" / enclave.lstrip("/") / "key.pem").is_file()
    found = variables(path, **arguments)
    assert found["ROS_SECURITY_ENABLE"] == "true"
    assert found["ROS_SECURITY_STRATEGY"] == "Enforce"
    assert found["ROS_SECURITY_KEYSTORE"] == str(keystore)


def test_security_without_usable_keys_is_refused_before_anything_starts(
    keystore: Path, environment_of_launch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment_of_launch.setenv("ROS_DOMAIN_ID", "42")
    path = ROOT / "launch" / "piper.launch.py"
    common = {"launch_driver": "false", "secure": "true"}
    with pytest.raises(ConfigError, match=r"keystore:=DIR"):
        variables(path, **common)
    with pytest.raises(ConfigError, match="the keystore lacks"):
        variables(path, **common, keystore=str(tmp_path))
    environment_of_launch.setenv("ROS_DOMAIN_ID", "43")
    with pytest.raises(ConfigError, match="is for ROS domain 42"):
        variables(path, **common, keystore=str(keystore))


def test_without_security_no_process_gets_a_key() -> None:
    nodes, _ = launched(ROOT / "launch" / "piper.launch.py", launch_driver="false")
    assert "--enclave" not in str([node.cmd for node in nodes])
