# SPDX-License-Identifier: Apache-2.0
"""What the safety process may not load."""

from __future__ import annotations

import subprocess
import sys


def test_the_safety_node_s_code_imports_neither_torch_nor_the_models() -> None:
    code = (
        "import sys, wam.runtime.safety.cycle, wam.runtime.safety.build, wam.runtime.safety.stream\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('torch', 'rclpy') or m.startswith('wam.models')]\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
