# SPDX-License-Identifier: Apache-2.0
"""The planner node: images and instruction in, planner context out."""
