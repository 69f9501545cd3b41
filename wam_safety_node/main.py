# SPDX-License-Identifier: Apache-2.0
"""Executable `wam_safety_node`: the command stream in a process of its own."""

from __future__ import annotations

import sys

from wam.ros.process import run
from wam_safety_node.node import SafetyNode

SWITCH_INTERVAL_S = 0.0005
"""Python lets a thread run this long before another may; the command thread waits for callbacks no longer."""


def main() -> None:
    """Run the safety node until SIGINT or SIGTERM."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    sys.exit(run(lambda: [SafetyNode()]))


if __name__ == "__main__":
    main()
