# SPDX-License-Identifier: Apache-2.0
"""The metrics of a replay, one row each. A new metric is a new row: docs/how-to/add-a-metric.md.

The order of the rows is the order of `metrics` in summary.json, of the page and of the reference.
"""

from __future__ import annotations

from wam.evaluation.metrics.error_rows import BETTER_THAN_HOLD, ERRORS
from wam.evaluation.metrics.imagination_rows import BETTER_IMAGINATION, IMAGINATION
from wam.evaluation.metrics.metric import JOINT, Shown
from wam.evaluation.metrics.motion_rows import MOTION
from wam.evaluation.metrics.rows import Row
from wam.evaluation.metrics.run_rows import RUN
from wam.evaluation.metrics.safety_rows import SAFETY

METRICS: tuple[Row, ...] = (
    *ERRORS,
    *MOTION,
    *IMAGINATION,
    *SAFETY,
    *RUN,
    BETTER_THAN_HOLD,
    BETTER_IMAGINATION,
)


def shown(place: Shown) -> tuple[Row, ...]:
    """Return the metrics that are shown at a place."""
    return tuple(row for row in METRICS if row.shown & place)


def gate_names() -> tuple[str, ...]:
    """Return the metrics that a gate may name."""
    return tuple(row.name for row in METRICS if row.gate)


def compared(*, mixed: bool = False) -> tuple[str, ...]:
    """Return the errors of a chunk that `wam replay compare` pairs, as the event `score` names them.

    Args:
        mixed: the joints have several units; errors in the unit of a joint are then left out.
    """
    return tuple(row.compared for row in METRICS if row.compared and not (mixed and JOINT in row.unit))
