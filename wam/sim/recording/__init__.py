# SPDX-License-Identifier: Apache-2.0
"""Experts' episodes recorded as data sets and bags."""
