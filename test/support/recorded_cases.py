# SPDX-License-Identifier: Apache-2.0
"""Small recordings and data sets of the kinds that labs have, one folder each, with what is right in its README.

`WAM_CASES_DATA` names the folder of the cases.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("WAM_CASES_DATA", ROOT.parent / "shared" / "data" / "cases"))

needs_cases = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no recordings of other labs in {FOLDER} (WAM_CASES_DATA)"
)
