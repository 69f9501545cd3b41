# SPDX-License-Identifier: Apache-2.0
"""MoveIt as a collision checker: a planning scene in a helper process, or a running move_group. Both optional."""
