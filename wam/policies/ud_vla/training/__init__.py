# SPDX-License-Identifier: Apache-2.0
"""Training UD-VLA: samples, objective, trainable parts."""
