# SPDX-License-Identifier: Apache-2.0
"""Tasks in simulation: what stands where, what is asked for, and how far it has come."""
