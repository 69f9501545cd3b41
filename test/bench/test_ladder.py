# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/ladder.py` on a processor at tiny size: every row is there; no figure is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LADDER = ROOT / "benchmarks" / "ladder.py"
PLANTED = "dust_stages"

pytestmark = pytest.mark.timeout(1800)  # half a minute of processor time, on machines that others use too

STAGES = {
    "aha_wam": (
        "vae_encode",
        "planner_text_context",
        "planner_prefill [first shapes]",
        "planner_prefill [last shapes]",
        "text_context",
        "route",
        "proprio_kv",
        "denoise",
    ),
    "ud_vla": ("image_codes [first shapes]", "prefix", "generated_pass", "unmask"),
    "state": ("network",),
}
CHUNKS = (
    "aha_wam prefill",
    *(f"aha_wam chunk N={steps}" for steps in (10, 4, 2, 1)),
    *(f"dust chunk q={q}" for q in (1, 4, 16)),
    "ud_vla JD3P T=4",
    "ud_vla autoregression",
)


def run(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    # However busy the machine is, the time is never spent unless a test says so.
    command = [sys.executable, str(LADDER), "--dry-run", "--device", "cpu", "--budget", "1e9", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture(scope="module")
def ladder(tmp_path_factory) -> tuple[int, list[dict[str, Any]], Path]:
    out = tmp_path_factory.mktemp("ladder") / "rows.json"
    code, rows, errors = run("--fail", PLANTED, "--out", str(out))
    assert rows, errors
    return code, rows, out


def of_rung(rows: list[dict[str, Any]], rung: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows if row["rung"] == rung}


@pytest.mark.parametrize("rung", ["eager", "cuda_graph"])
def test_every_chunk_has_its_row_on_every_rung(ladder, rung: str) -> None:
    named = of_rung(ladder[1], rung)
    assert all(named[name]["wall_p50_us"] > 0 for name in CHUNKS)


@pytest.mark.parametrize("rung", ["eager", "cuda_graph"])
def test_every_stage_has_its_row_with_kernels_bytes_and_error(ladder, rung: str) -> None:
    named = of_rung(ladder[1], rung)
    for policy, stages in STAGES.items():
        for stage in stages:
            row = named[f"{policy} {stage}"]
            assert min(row["wall_p50_us"], row["wall_p95_us"], row["kernels"], row["bytes"]) > 0
            assert row["error"] is None or row["error"] < 1e-4


def test_a_section_that_fails_says_why_and_stops_nothing(ladder) -> None:
    code, rows, _ = ladder
    sections = {
        row["name"].removeprefix("section "): row for row in rows if row["name"].startswith("section ")
    }
    assert code == 1
    assert "planted with --fail" in sections[PLANTED]["error"]
    assert [name for name, row in sections.items() if "error" in row] == [PLANTED]
    assert rows[-1] == {**rows[-1], "name": "end", "failed": [f"section {PLANTED}"]}
    assert list(sections).index("ud_vla_stages") > list(sections).index(PLANTED)


def test_the_stages_with_regions_have_their_rows_on_the_rung_compile(ladder) -> None:
    named = of_rung(ladder[1], "compile")
    assert named["aha_wam load"]["build_s"] > 0
    assert {"aha_wam chunk N=10", "aha_wam prefill", "dust evaluate_joint"} <= set(named)
    assert named["aha_wam denoise"]["error"] < 1e-4


def test_chunks_beside_a_prefill_and_the_shared_pool_are_judged(ladder) -> None:
    named = of_rung(ladder[1], "cuda_graph")
    assert named["aha_wam chunk N=2 alone"]["wall_p99_us"] > 0
    assert named["aha_wam chunk N=2 beside a 10 Hz prefill"]["wall_p99_us"] > 0
    pool = named["aha_wam shared pool"]
    assert (pool["chunks"], pool["wrong"]) == (8, 0)


def test_the_ratio_to_a_captured_autoregression_stands_beside_that_to_an_eager_one(ladder) -> None:
    (ratio,) = [row for row in ladder[1] if row["name"] == "ud_vla JD3P over autoregression"]
    assert min(ratio["over_eager"], ratio["both_captured"]) > 0


def test_what_needs_a_gpu_says_so_and_the_machine_row_that_graphs_are_stand_ins(ladder) -> None:
    rows = ladder[1]
    assert rows[0] == {**rows[0], "name": "machine", "stand_in": True}
    skipped = {row["rung"] for row in rows if row["name"] == "aha_wam step" and "skipped" in row}
    assert skipped == {"kernels, graph"}
    (kernels,) = [row for row in rows if row["rung"] == "triton"]
    assert "NVIDIA GPU" in kernels["skipped"] or "triton is not installed" in kernels["skipped"]


def test_the_file_holds_every_row_that_was_printed(ladder) -> None:
    _, rows, out = ladder
    assert json.loads(out.read_text()) == rows


def test_when_the_time_is_spent_sections_are_named_and_not_run() -> None:
    code, rows, _ = run("--budget", "0", "--only", "state_stages,aha_stages")
    assert code == 0
    assert [row["skipped"] for row in rows if row["name"].startswith("section ")] == ["the time is spent"] * 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--only", "nothing"], "there is no section nothing"), (["--fail", "x"], "there is no section x")],
)
def test_an_unknown_section_is_refused_by_name(arguments: list[str], says: str) -> None:
    code, _, errors = run(*arguments)
    assert (code, says in errors) == (2, True)
