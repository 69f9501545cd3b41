# SPDX-License-Identifier: Apache-2.0
"""One line of the report of `wam doctor`."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Outcome(enum.Enum):
    """Result of a check, mildest first. INFO: a hint, for a machine with a robot's driver for instance."""

    OK = "OK"
    INFO = "INFO"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was checked.
        outcome: the result.
        found: what was found.
        remedy: suggested fix; empty if none is needed.
    """

    name: str
    outcome: Outcome
    found: str
    remedy: str = ""
