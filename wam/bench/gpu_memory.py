# SPDX-License-Identifier: Apache-2.0
"""How much memory a policy's weights take, by precision: arithmetic from configurations, nothing is allocated.

    python -m wam.bench.gpu_memory

prints the figures of docs/reference/gpu.md. It says nothing about activations, captured graphs and the allocator's
reserve: those are measured, where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GIB = 2**30
BYTES = {"bfloat16": 2, "float32": 4}
PRESETS = ("aha_wam/paper", "aha_wam/fast_wam", "dust/paper", "dust/gr00t_n1", "ud_vla/paper")


@dataclass(frozen=True, slots=True)
class WeightRow:
    """Weights of one network at one precision.

    Attributes:
        preset: KIND/NAME as `wam info` lists it.
        parameters: number of weights.
        precision: of the weights.
        gib: memory of the weights [GiB].
    """

    preset: str
    parameters: int
    precision: str
    gib: float


def rows(parameters: Mapping[str, int]) -> list[WeightRow]:
    """Return a row for each preset and precision.

    Args:
        parameters: number of weights by preset.
    """
    return [
        WeightRow(preset, count, precision, count * size / GIB)
        for preset, count in parameters.items()
        for precision, size in BYTES.items()
    ]


def table(found: list[WeightRow]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| preset | weights | precision | memory of the weights |", "|---|---|---|---|"]
    lines += [
        f"| `{one.preset}` | {one.parameters / 1e9:.2f} e9 | {one.precision} | {one.gib:.1f} GiB |"
        for one in found
    ]
    return "\n".join(lines)


def main() -> None:
    """Count the weights of every preset and print the table."""
    from wam.policies.registry import policy_kind

    counted = {}
    for name in PRESETS:
        kind, _, preset = name.partition("/")
        owner = policy_kind(kind)
        parts = owner.count_parameters(owner.load_presets()[preset]())
        counted[name] = parts.get("total", sum(parts.values()))
    print(table(rows(counted)))


if __name__ == "__main__":
    main()
