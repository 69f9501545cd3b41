# SPDX-License-Identifier: Apache-2.0
"""Parts of the test suite for several machines: every test is in exactly one, and the files stay whole."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

COSTS = {"slow": 25.0, "ros": 4.0, "sim": 2.0}
"""What a test with a mark takes, about, and one without (`COST`) [s]."""

COST = 0.5


class Item(Protocol):
    """A test as pytest has collected it."""

    nodeid: str

    def get_closest_marker(self, name: str) -> object | None:
        """Return the mark of this name, if any."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts, by its number from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard of "2/3".

        Raises:
            ArgumentTypeError: there is no such shard.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ArgumentTypeError(f"{text}: K/N with K in 1..N is allowed, e.g. 1/3")
        return cls(int(number), int(count))


def outside(shard: Shard, items: Sequence[Item]) -> set[Item]:
    """Return the tests of the other shards.

    Files go, the most expensive first, to the shard that has least so far: what is collected decides, so that every
    machine with the same checkout comes to the same parts. Files stay whole, since their tests may share a stack.
    """
    files: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        files[item.nodeid.partition("::")[0]].append(item)
    cost = {file: sum(map(_cost, tests)) for file, tests in files.items()}
    filled = [0.0] * shard.count
    others: set[Item] = set()
    for file in sorted(files, key=lambda file: (-cost[file], file)):
        least = filled.index(min(filled))
        filled[least] += cost[file]
        if least != shard.number - 1:
            others.update(files[file])
    return others


def _cost(item: Item) -> float:
    return max((cost for mark, cost in COSTS.items() if item.get_closest_marker(mark)), default=COST)
