# SPDX-License-Identifier: Apache-2.0
"""The node `wam_driver`: Inspire hands, and the Franka Hand, whose own driver takes goals and no stream."""
