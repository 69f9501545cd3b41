# SPDX-License-Identifier: Apache-2.0
"""The released container and the complete list of its names at full size."""

from __future__ import annotations

import ast

import pytest
import torch

from wam.models.container import read_pt
from wam.policies.aha_wam.config import paper
from wam.policies.aha_wam.key_map import rename_released, to_released
from wam.policies.aha_wam.model import AhaWam, parameter_counts

pytestmark = pytest.mark.parity


def test_names_and_shapes_at_full_size_are_those_of_the_released_checkpoint(golden) -> None:
    released = {}
    for line in golden.part("checkpoint_keys_full_size.txt").read_text().splitlines():
        part, name, shape = line.split("\t")
        released[f"{part}.{name}"] = tuple(ast.literal_eval(shape))
    with torch.device("meta"):
        ours = {name: tuple(t.shape) for name, t in AhaWam(paper()).state_dict().items()}
    assert rename_released(released) == ours
    assert {to_released(name) for name in ours} == set(released)


def test_the_released_container_holds_the_same_weights_under_the_same_names(golden) -> None:
    container = read_pt(golden.part("tiny_official.pt"))
    found, want = rename_released(container.tensors), golden.model.state_dict()
    assert set(found) == set(want)
    assert all(torch.equal(found[name], want[name]) for name in want)


def test_parameters_per_part_are_those_of_the_tiny_reference(golden) -> None:
    counts = parameter_counts(golden.config)
    theirs = golden.info["num_params"]
    assert counts["video"] == theirs["mot.mixtures.video"]
    assert counts["action"] == theirs["mot.mixtures.action"]
    assert counts["editor"] == theirs["mot.chunk_kv_cache_editor"]
    assert counts["query_encoder"] == theirs["chunk_obs_query_encoder"]
    assert counts["visual_projection"] == theirs["action_obs_visual_proj"]
    assert counts["proprio"] == theirs["proprio_encoder"]
