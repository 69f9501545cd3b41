# SPDX-License-Identifier: Apache-2.0
"""Planner and executor in one process: zero-copy contexts, one subscription per camera."""
