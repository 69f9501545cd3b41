# SPDX-License-Identifier: Apache-2.0
"""`wam bench decode` on a small sequence; no figure is asserted here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from wam.bench import decode, decode_methods
from wam.bench.decode_methods import Effort, Workload
from wam.core.errors import ConfigError
from wam.policies.ud_vla.config import preset

ROOT = Path(__file__).parents[2]
SPEEDS = ("ar", "released_ar", "jacobi", "independent", "jd3p", "jd3p_cached")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the sizes of a sequence of 26 sites, which the bench takes for the released one."""
    config = replace(preset("tiny"), action_len=10)
    monkeypatch.setattr(decode, "released_geometry", lambda _: config)
    monkeypatch.setattr(decode_methods, "RELEASED_GRIDS", ((2, 2),))
    monkeypatch.setattr(decode, "PART", Effort(steps=3, sites=8, repeats=1))
    return config


def test_every_method_is_timed_and_compared(small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code = decode.main(["--preset", "tiny", "--device", "cpu", "--json"])
    told = json.loads(capsys.readouterr().out)
    results = told["results"]
    assert all(results[f"{name}_tokens_per_s"] > 0 for name in SPEEDS)
    best = max(results["jd3p_tokens_per_s"], results["jd3p_cached_tokens_per_s"])
    assert results["jd3p_over_ar"] == pytest.approx(best / results["ar_tokens_per_s"], rel=0.01)
    assert results["ar_row_over_jd3p_row"] == pytest.approx(decode.STEPS * results["jd3p_over_ar"], rel=0.05)
    assert code == (0 if all(bar["ok"] for bar in told["bars"].values()) else 1)


def test_a_cpu_is_held_to_ratios_of_a_cpu(small: Any) -> None:
    """The paper's ratio, which a GPU reaches, was a limit on a CPU too: a run there failed whatever the code did."""
    measured = decode.run(lambda _: None, preset="tiny", device="cpu")
    assert set(measured.bars) == {"released_over_iteration", "ar_row_over_jd3p_row"}
    assert "jd3p_over_ar" in measured.results
    assert any("jd3p_over_ar has no limit on a CPU" in note for note in measured.notes)


def test_the_speed_tables_name_what_is_measured(small: Any) -> None:
    results = set(decode.run(lambda _: None, preset="tiny", device="cpu").results)
    page = (ROOT / "docs/reference/bench.md").read_text(encoding="utf-8")
    section = page.partition("\n## decode\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"`([a-z0-9_]+)`", section))
    assert results <= told


def test_shorter_runs_are_scaled_to_a_whole_chunk(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Workload(
        small, device=torch.device("cpu"), dtype=torch.float32, effort=Effort(steps=2, sites=4, repeats=1)
    )
    monkeypatch.setattr(work, "_time", lambda run, **_: (run(), 1.0)[1])
    assert work.jacobi() == pytest.approx(work.tokens / 4)
    assert work.released_autoregressive() == pytest.approx(work.tokens / 4)
    assert work.jd3p(work.uncached(), 10) == pytest.approx(5.0)
    assert work.independent(work.uncached(), 10) == pytest.approx(5.0)


def test_the_public_baselines_compute_the_whole_vocabulary(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workload(small, device=torch.device("cpu"), dtype=torch.float32, effort=Effort(sites=2, repeats=1))
    widths = []
    handle = work.decoder.lm.lm_head.register_forward_hook(lambda _m, _i, out: widths.append(out.shape[-1]))
    work.released_autoregressive()
    work.released_step()
    before = len(widths)
    work.autoregressive()
    work.jd3p(work.cached(), 2)
    handle.remove()
    assert before == 3
    assert set(widths) == {small.tokens.vocab_size}
    assert len(widths) == before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"policy": "dust/random"}, "dust"),
        ({"preset": "huge"}, "huge"),
        ({"preset": "tiny", "layers": 0}, "layers"),
        ({"preset": "tiny", "steps": 0}, "steps"),
        ({"preset": "tiny", "device": "toaster"}, "toaster"),
        ({"preset": "tiny", "dtype": "int8"}, "int8"),
    ],
)
def test_an_illegal_option_is_refused_by_name(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        decode.run(lambda _: None, **options)


def test_the_bench_needs_neither_ros_nor_the_command_line() -> None:
    refuse = """
import sys
for name in ("rclpy", "wam_msgs", "typer", "rich", "mujoco", "cv2", "pyarrow", "av", "xacro"):
    sys.modules[name] = None
from wam.bench.decode import main
try:
    main(["--help"])
except SystemExit as end:
    sys.exit(end.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", refuse], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--device" in done.stdout
