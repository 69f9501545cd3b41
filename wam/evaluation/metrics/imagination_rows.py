# SPDX-License-Identifier: Apache-2.0
"""Rows of what a policy's world model imagines, compared with what came."""

from __future__ import annotations

import math

from wam.evaluation.metrics.basis import ReplayBasis, mean, skill
from wam.evaluation.metrics.metric import Metric, Shown
from wam.evaluation.metrics.rows import Row, imagination_mean
from wam.report.statistics import Interval, wilson


def _imagination_skill(basis: ReplayBasis) -> float:
    return skill(
        mean([one.mse for one in basis.imaginations]),
        mean([one.still_mse for one in basis.imaginations]),
    )


def _better_imagination(basis: ReplayBasis) -> Interval | None:
    better = [one.mse < one.still_mse for one in basis.imaginations]
    return wilson(sum(better), len(better)) if better else None


IMAGINATION: tuple[Row, ...] = (
    Metric(
        "imagined_futures",
        "imagined futures that could be compared with the observed future",
        "",
        lambda basis: float(len(basis.imaginations)),
        meaning="imagined futures of a policy with a world model that could be compared with the observed future; 0 "
        "for a policy that predicts none, and without `--imagination` for AHA-WAM and in `live` mode",
    ),
    imagination_mean(
        "imagination_mse",
        "mean squared error of the imagined future, in the policy's features",
        "mse",
        "mean squared distance of the imagined from the observed future, in the policy's own features (DUST: pooled "
        "vision embedding; UD-VLA: pixels of the decoded image tokens, 0 to 1; AHA-WAM: pixels of the decoded latent)",
    ),
    imagination_mean(
        "imagination_still_mse",
        "mean squared error of the present as the prediction",
        "still_mse",
        "as `imagination_mse`, with the present as the prediction",
    ),
    Metric(
        "imagination_skill",
        "skill of the imagination relative to that (1 is perfect, 0 no better)",
        "1",
        _imagination_skill,
        shown=Shown.PAGE_IF_KNOWN,
        meaning='1 - `imagination_mse` / `imagination_still_mse`: 1 is perfect, 0 no better than "nothing will change"',
    ),
    imagination_mean(
        "imagination_cosine",
        "cosine similarity of imagined and observed future",
        "cosine",
        "cosine similarity of imagined and observed features",
        interval=False,
    ),
)


BETTER_IMAGINATION = Metric(
    "better_imagination_rate",
    "share of imagined futures that are closer to the observed future than the present is",
    "1",
    lambda basis: math.nan if (found := _better_imagination(basis)) is None else found.value,
    _better_imagination,
    gate=False,
)
