# SPDX-License-Identifier: Apache-2.0
"""The safety node: chunks and joint states in, bounded commands out, in its own process without torch."""
