# SPDX-License-Identifier: Apache-2.0
"""The safety node: chunks and joint states in, bounded commands out, in a process of its own without torch."""
