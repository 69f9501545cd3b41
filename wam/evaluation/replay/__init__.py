# SPDX-License-Identifier: Apache-2.0
"""Recordings run through planner, executor and safety as if they were live; report."""
