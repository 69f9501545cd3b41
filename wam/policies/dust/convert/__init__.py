# SPDX-License-Identifier: Apache-2.0
"""Released GR00T-N1 checkpoints to a DUST policy bundle."""
