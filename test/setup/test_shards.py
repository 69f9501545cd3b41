# SPDX-License-Identifier: Apache-2.0
"""Shards of the test suite."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest
from shards import COSTS, Shard, outside


class Test:
    """A test as pytest has collected it."""

    __test__ = False

    def __init__(self, nodeid: str, *marks: str) -> None:
        self.nodeid, self._marks = nodeid, marks

    def get_closest_marker(self, name: str) -> object | None:
        return name if name in self._marks else None


SUITE = [
    Test(f"test/{folder}/test_{number}.py::test_{case}[a::b]", *marks)
    for folder, marks in (("core", ()), ("faults", ("ros", "slow")), ("nodes", ("ros", "sim")))
    for number in range(9)
    for case in range(number + 1)
]


def inside(number: int, count: int) -> list[Test]:
    others = outside(Shard(number, count), SUITE)
    return [test for test in SUITE if test not in others]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_every_test_is_in_exactly_one_shard_and_files_stay_whole(count: int) -> None:
    parts = [inside(number, count) for number in range(1, count + 1)]
    assert sorted(test.nodeid for part in parts for test in part) == sorted(test.nodeid for test in SUITE)
    files = [{test.nodeid.partition("::")[0] for test in part} for part in parts]
    assert sum(map(len, files)) == len(set().union(*files))


def test_the_slow_tests_are_divided_as_well() -> None:
    slow = [sum(test.get_closest_marker("slow") is not None for test in inside(n, 3)) for n in (1, 2, 3)]
    largest_file = 9
    assert max(slow) - min(slow) <= largest_file
    assert COSTS["slow"] > COSTS["ros"]


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "-1/3", "a/b", "1/3/5"])
def test_a_shard_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"e\.g\. 1/3"):
        Shard.parse(text)
