# SPDX-License-Identifier: Apache-2.0
"""Small data sets."""

from __future__ import annotations

from training_data import dataset_root, make_dataset

__all__ = ["dataset_root", "make_dataset"]
