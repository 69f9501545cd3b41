# SPDX-License-Identifier: Apache-2.0
"""Small data sets, models and runs for the tests of training."""

from __future__ import annotations

from training_data import (
    dataset_root,
    make_batch,
    make_dataset,
    make_model,
    one_thread,
    run_values,
    short_root,
)

__all__ = [
    "dataset_root",
    "make_batch",
    "make_dataset",
    "make_model",
    "one_thread",
    "run_values",
    "short_root",
]
