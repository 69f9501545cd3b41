# SPDX-License-Identifier: Apache-2.0
"""Replay a recording with and without the filter of this package, and say what it refused.

python examples/safety_filter/run.py                          # on a short recording that it makes itself
python examples/safety_filter/run.py --bag my_bag --robot piper --policy runs/pick/bundle --out reports/margin
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from wam import api
from wam.data.fakes import write_fake_bag
from wam.devices.loader import load_robot

HERE = Path(__file__).resolve().parent
FILTER = "example_filter:make_margin"


def main(arguments: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Replay twice; return the section `safety` of both summaries, "without" and "with" the filter."""
    parser = argparse.ArgumentParser(description="A safety filter of another package, on a recording.")
    parser.add_argument("--bag", type=Path, help="recording; default: one of eight seconds is made")
    parser.add_argument("--robot", default=str(HERE / "robot.yaml"), help="name or file of its robot")
    parser.add_argument("--policy", default="fake", help="bundle, or fake")
    parser.add_argument(
        "--out", type=Path, default=Path("reports/safety_filter"), help="folder of two reports"
    )
    options = parser.parse_args(arguments)
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))  # `pip install examples/safety_filter` makes this line unnecessary
    bag = options.bag
    if bag is None:
        bag = options.out / "recording"
        if not bag.exists():
            write_fake_bag(bag, robot=load_robot(options.robot, moves=False), seconds=8.0)
    found = {}
    for name, filters in (("without", ()), ("with", (FILTER,))):
        report = api.replay(
            bag,
            robot=options.robot,
            policy=options.policy,
            report=options.out / name,
            gate="none",
            extra_filters=filters,
        )
        found[name] = report.summary["safety"]
        count = round(report.metrics["chunks"] or 0)
        print(f"{name} the filter: {count} chunks, {options.out / name / 'index.html'}")
        for code, one in found[name]["findings"].items():
            print(f"  {code}: {one['chunks']} chunks, the first: {one['example']}")
    return found


if __name__ == "__main__":
    main()
