# SPDX-License-Identifier: Apache-2.0
"""Names, shapes and sizes of GR00T-N1's released checkpoint."""

from __future__ import annotations

import ast

import pytest
import torch

from wam.policies.dust.config import gr00t_n1
from wam.policies.dust.convert.gr00t_names import to_ours, to_theirs
from wam.policies.dust.model import DustModel

pytestmark = pytest.mark.parity


def test_our_network_has_the_released_tensors_under_names_that_translate_both_ways(part) -> None:
    lines = part("gr00t_n1_checkpoint_keys.txt").read_text().splitlines()
    released = dict(line.split("\t") for line in lines if not line.startswith("#"))
    want = {name: ast.literal_eval(shape) for name, shape in released.items()}
    with torch.device("meta"):
        ours = {n: tuple(t.shape) for n, t in DustModel(gr00t_n1()).state_dict().items()}
    assert len(want) == 802
    assert {to_theirs(n): s for n, s in ours.items()} == want
    assert {to_ours(n): s for n, s in want.items()} == ours
