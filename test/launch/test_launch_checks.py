# SPDX-License-Identifier: Apache-2.0
"""What a launch is asked for is checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from wam.core.errors import BundleError, ConfigError
from wam_bringup.launch_checks import require_known, require_policy, summary
from wam_bringup.launch_schema import ARGUMENTS

NAMES = [argument.name for argument in ARGUMENTS]


@pytest.mark.parametrize(
    ("written", "meant"), [("polcy", "policy"), ("safety_profil", "safety_profile"), ("dryrun", "dry_run")]
)
def test_a_misspelt_argument_is_refused(written: str, meant: str) -> None:
    """`polcy:=DIR` was taken without a word, and the fake policy ran in its place."""
    with pytest.raises(ConfigError, match=f"no argument {written}.*{meant}:="):
        require_known({"policy": "x", written: "y"}, NAMES)


def test_an_argument_of_a_launch_file_that_includes_this_one_passes() -> None:
    require_known({"policy": "x", "robot_type": "fr3", "cell": "left", "ros_namespace": "/left"}, NAMES)


def test_a_policy_that_is_not_there_is_refused_with_a_guess(tmp_path: Path) -> None:
    """The nodes looked for it, half a minute later, and the safety node ran on beside the failed policy."""
    with pytest.raises(BundleError, match="no policy bundle of that name"):
        require_policy(str(tmp_path / "piper"), moves=False)
    with pytest.raises(BundleError, match="did you mean 'aha_wam/random'"):
        require_policy("aha_wam/randm", moves=False)
    assert require_policy("aha_wam/random", moves=True) == "aha_wam/random"
    assert require_policy(str(tmp_path), moves=True) == str(tmp_path)


def test_no_arm_is_moved_by_a_policy_that_nobody_named() -> None:
    with pytest.raises(ConfigError, match="policy:=fake waves the arms about"):
        require_policy("", moves=True)
    assert require_policy("", moves=False) == "fake"
    assert require_policy("fake", moves=True) == "fake"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("all", "policy fake, safety profile cautious, commands are sent"),
        ("robot", "safety profile cautious, commands are sent"),
        ("policy", "policy fake"),
    ],
)
def test_the_log_says_what_was_asked_for(parts: str, said: str) -> None:
    assert summary({"policy": "fake", "safety_profile": "cautious", "parts": parts}, dry_run=False) == said
