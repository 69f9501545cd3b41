# SPDX-License-Identifier: Apache-2.0
"""Franka Research 3 and its hand: driver messages, recovery, simulated twin."""
