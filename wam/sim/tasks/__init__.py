# SPDX-License-Identifier: Apache-2.0
"""Tasks in simulation: objects and placement, instructions, and progress."""
