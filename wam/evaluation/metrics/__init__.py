# SPDX-License-Identifier: Apache-2.0
"""Measures of predicted against recorded actions, and what a gate does with them."""
