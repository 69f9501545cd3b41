# SPDX-License-Identifier: Apache-2.0
"""Recordings and live nodes: a recorder that listens, and a player that stands in for a robot's drivers."""
