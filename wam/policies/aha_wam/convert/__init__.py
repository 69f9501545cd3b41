# SPDX-License-Identifier: Apache-2.0
"""Released AHA-WAM and Wan checkpoints to a policy bundle."""
