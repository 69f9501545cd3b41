# SPDX-License-Identifier: Apache-2.0
"""ROS domains of a test run: no two tests that run at the same time share one.

Each worker of pytest-xdist has a domain of its own, and takes turns in a few more for stacks of processes, so that what
a killed process leaves in a graph is not found by the next stack. All follow the domain of the run (WAM_DOMAIN_ID).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, MutableMapping

from wam.ros.environment import DOMAIN, MAX_DOMAIN_ID, OWN_DOMAIN, isolate

WORKER, WORKERS = "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"
TURNS = 6
"""Domains of a worker beside its own: a participant that was killed is forgotten after 20 s."""


def isolate_worker(environment: MutableMapping[str, str]) -> None:
    """Give this process of the run a domain of its own on this machine.

    Args:
        environment: usually `os.environ`; changed in place. In a worker it names the domain of the run.
    """
    first = isolate(environment)
    if number := _worker(environment)[0]:
        environment[OWN_DOMAIN] = str(_shifted(first, number))
        isolate(environment)


def turns(environment: MutableMapping[str, str] = os.environ) -> Iterator[int]:
    """Yield the domains in which this worker's stacks take turns, for ever."""
    own, workers = int(environment[DOMAIN]), _worker(environment)[1]
    others = max(1, min(TURNS, MAX_DOMAIN_ID // workers - 1))
    return itertools.cycle([_shifted(own, workers * turn) for turn in range(1, others + 1)])


def _worker(environment: MutableMapping[str, str]) -> tuple[int, int]:
    """Return the number of this worker, from 0, and how many there are."""
    return int(environment.get(WORKER, "gw0").removeprefix("gw")), int(environment.get(WORKERS, "1"))


def _shifted(domain: int, by: int) -> int:
    return (domain - 1 + by) % MAX_DOMAIN_ID + 1
