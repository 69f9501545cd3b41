# SPDX-License-Identifier: Apache-2.0
"""Released UD-VLA and Emu3 checkpoints to a policy bundle."""
