# SPDX-License-Identifier: Apache-2.0
"""From rows to commands: C2 resampling, the limited follower, rolling trajectories, tool channels."""
