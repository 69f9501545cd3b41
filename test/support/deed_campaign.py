# SPDX-License-Identifier: Apache-2.0
"""Plays many sequences of deeds and judges them: `python test/support/deed_campaign.py --robot piper --count 300`.

One JSON line per case goes to `--out`, which a later call reads back and continues; sums and faults are printed.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deed_judges import judge
from deed_play import Play
from deeds import draw

from wam.core.verdict import Ladder

SUMS = ("ticks", "stops", "requests", "retreats", "in_contact", "pushes", "near", "measured")
WORST = ("worst_near", "worst_tool")


def play(robot: str, seed: int) -> dict[str, Any]:
    """Return what came of one case, ready for JSON."""
    record = Play(draw(robot, seed)).run()
    rungs = [tick.rung for tick in record.ticks]
    return {
        "robot": robot,
        "seed": seed,
        "ticks": len(rungs),
        "stops": sum(one is Ladder.STOP and before is not one for before, one in itertools.pairwise(rungs)),
        "requests": record.requests,
        **asdict(judge(record)),
    }


def main() -> None:
    """Play the cases that are asked for."""
    parser = argparse.ArgumentParser(
        description="random sequences of chunks, stops, ways back, pushes and faults"
    )
    parser.add_argument("--robot", nargs="+", default=["piper", "franka", "ur5e_inspire"])
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=100, help="seeds per robot")
    parser.add_argument("--out", type=Path, help="file of JSON lines; cases that it has are not played again")
    chosen = parser.parse_args()
    lines: list[dict[str, Any]] = []
    if chosen.out is not None and chosen.out.is_file():
        lines = [json.loads(line) for line in chosen.out.read_text(encoding="utf-8").splitlines()]
    done = {(one["robot"], one["seed"]) for one in lines}
    for seed in range(chosen.first, chosen.first + chosen.count):
        for robot in chosen.robot:
            if (robot, seed) in done:
                continue
            lines.append(play(robot, seed))
            if chosen.out is not None:
                with chosen.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
    for robot in chosen.robot:
        own = [one for one in lines if one["robot"] == robot]
        sums = {key: sum(one[key] for one in own) for key in SUMS}
        worst = {key: round(max((one[key] for one in own), default=0.0), 4) for key in WORST}
        print(
            robot,
            len(own),
            "cases",
            sums,
            worst,
            dict(Counter(f["kind"] for one in own for f in one["faults"])),
        )
    for one in lines:
        for fault in one["faults"]:
            print(one["robot"], one["seed"], fault)


if __name__ == "__main__":
    main()
