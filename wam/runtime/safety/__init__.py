# SPDX-License-Identifier: Apache-2.0
"""The safety cycle: chunks in, bounded joint commands out, by the degrade ladder."""
