# SPDX-License-Identifier: Apache-2.0
"""Transports that hand a planner context over by handle."""
