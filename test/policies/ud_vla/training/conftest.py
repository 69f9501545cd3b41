# SPDX-License-Identifier: Apache-2.0
"""Small data sets for the tests of training."""

from __future__ import annotations

from training_data import one_thread, short_root

__all__ = ["one_thread", "short_root"]
