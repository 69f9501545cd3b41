# SPDX-License-Identifier: Apache-2.0
"""Lists the tests that failed in several runs of pytest, a line each: the end of a long log then says which they are.

`python tools/failures.py build/tests/*.xml`, with the reports that pytest --junit-xml wrote.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

WIDTH = 240
"""Characters of a line: the end of a log may be all that is kept of it."""


def failures(report: Path) -> list[str]:
    """Return one line per failed test of `report`: where it lies, and how what it said begins.

    A run that was killed leaves no report: it has no lines.
    """
    if not report.is_file():
        return []
    lines = []
    for case in ElementTree.parse(report).iter("testcase"):
        for outcome in [*case.findall("failure"), *case.findall("error")]:
            said = " ".join(outcome.get("message", "").split())
            lines.append(f"FAILED {case.get('classname')}::{case.get('name')} - {said}"[:WIDTH])
    return lines


def main() -> None:
    """Print the failed tests of the reports named on the command line."""
    for line in [line for name in sys.argv[1:] for line in failures(Path(name))]:
        print(line)


if __name__ == "__main__":
    main()
