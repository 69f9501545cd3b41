# SPDX-License-Identifier: Apache-2.0
"""A mistyped word is answered with the one that was meant, and only where one is alike."""

from __future__ import annotations

import pytest

from wam.core.errors import BundleError, ConfigError
from wam.core.suggest import did_you_mean, nearest

POLICIES = ("dust/franka_box_to_bowl_near", "state/piper_move_large_object", "aha_wam/random")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("aha_wam/randm", ("aha_wam/random",)),
        ("piper_move_large_objct", ("state/piper_move_large_object",)),
        ("AHA_WAM/RANDOM", ("aha_wam/random",)),
        ("quaternion", ()),
        ("", ()),
    ],
)
def test_the_nearest_name_is_found_by_the_whole_or_by_a_part(word: str, meant: tuple[str, ...]) -> None:
    assert nearest(word, POLICIES, by_part=True) == meant


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("m", ("m/s", "mm/s"), ()),
        ("randm", POLICIES, ()),
        ("rad/S", ("m/s", "rad/s"), ("rad/s",)),
    ],
)
def test_a_part_is_enough_only_where_names_have_parts(
    word: str, known: tuple[str, ...], meant: tuple[str, ...]
) -> None:
    """A velocity in 'm' was answered with "did you mean 'm/s'?"."""
    assert nearest(word, known) == meant


def test_a_part_that_several_names_share_suggests_all_of_them() -> None:
    """The task of two policies was answered with the first of them only, as if the other did not exist."""
    known = ("aha_wam/piper_box", "state/piper_box", "state/franka_box")
    assert nearest("piper_bx", known, by_part=True) == ("aha_wam/piper_box", "state/piper_box")
    assert did_you_mean("piper_bx", known, by_part=True) == (
        ", did you mean 'aha_wam/piper_box' or 'state/piper_box'?"
    )
    assert nearest("state/piper_bx", known, by_part=True) == ("state/piper_box",)


def test_an_error_suggests_by_a_part_where_it_is_told_to() -> None:
    known, said = ("aha_wam/random",), "did you mean 'aha_wam/random'?"
    assert said in str(BundleError("policy", value="randm", known=known, by_part=True))
    assert said not in str(BundleError("policy", value="randm", known=known))


def test_a_word_that_is_known_is_not_suggested_to_itself() -> None:
    assert did_you_mean("piper", ("piper", "franka")) == ""


def test_an_error_with_known_names_lists_and_suggests_them() -> None:
    error = ConfigError("robot", value="pipre", known=("franka", "piper"), where="--robot")
    assert (
        str(error)
        == "robot: got 'pipre', did you mean 'piper'?; allowed: franka, piper; change it in --robot"
    )


def test_what_is_allowed_may_be_said_in_other_words_than_the_known_names() -> None:
    error = ConfigError("robot", value="pipre", allowed="a name or a file", known=iter(("piper",)))
    assert str(error) == "robot: got 'pipre', did you mean 'piper'?; allowed: a name or a file"


def test_of_several_unknown_keys_the_first_is_answered() -> None:
    assert "did you mean 'robot'?" in str(
        ConfigError("keys", value=["robto", "zzz"], known=("robot", "bags"))
    )


def test_an_error_without_known_names_suggests_nothing() -> None:
    assert str(ConfigError("rate", value="piper", allowed="> 0")) == "rate: got 'piper'; allowed: > 0"
