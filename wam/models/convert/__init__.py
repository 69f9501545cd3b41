# SPDX-License-Identifier: Apache-2.0
"""Turns released checkpoints into policy bundles."""
