# SPDX-License-Identifier: Apache-2.0
"""What runs each stage of a policy, as diagnostics and reports state it."""

from __future__ import annotations

from wam.core.policy import StageBackend, backends_in_values, stages_to_values

STAGES = (
    StageBackend("route", "cuda_graph", ""),
    StageBackend("denoise", "eager", "not cuda_graph: too large"),
)


def test_diagnostics_give_back_what_ran_each_stage_and_nothing_else() -> None:
    values = {"state": "planning", **stages_to_values(STAGES), "threads": "1"}
    assert values["backend of route"] == "cuda_graph"
    assert backends_in_values(values) == {
        "route": "cuda_graph",
        "denoise": "eager (not cuda_graph: too large)",
    }


def test_a_node_without_a_policy_names_no_stage() -> None:
    assert backends_in_values({"state": "waiting"}) == {}
