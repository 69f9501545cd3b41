# SPDX-License-Identifier: Apache-2.0
"""A parameter: a dataclass field with description, unit, bounds and choices.

    @dataclass(frozen=True, slots=True)
    class ChainOptions:
        max_scale: float = parameter(4.0, description="...", unit="1", lower=1.0, upper=20.0)

`wam.ros.parameters.declare` turns the fields into ROS parameters. Code without ROS uses the same class with the same
defaults.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def parameter(
    default: Any = dataclasses.MISSING,
    *,
    description: str,
    unit: str = "",
    lower: float | None = None,
    upper: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Return a dataclass field that carries what a ROS parameter descriptor needs.

    Args:
        default: value used when none is set; left out, the parameter is required.
        description: one sentence for `ros2 param describe`.
        unit: unit of the value, e.g. "s"; shown in the description.
        lower: smallest legal value; numbers only.
        upper: largest legal value; numbers only.
        choices: legal values; strings only.
    """
    metadata = {
        "description": description,
        "unit": unit,
        "lower": lower,
        "upper": upper,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)
