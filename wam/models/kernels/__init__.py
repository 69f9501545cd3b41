# SPDX-License-Identifier: Apache-2.0
"""Own Triton kernels for transformer layers with few rows: whole layers in eight launches.

Nothing here imports triton until a layer is asked for (`wam.models.kernels.availability` says whether it can be).
"""
