# SPDX-License-Identifier: Apache-2.0
"""One folder per policy, found by the entry points of the group `wam.policies`."""
