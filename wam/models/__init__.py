# SPDX-License-Identifier: Apache-2.0
"""Torch code that policies share: layers, bundles, backends, text, normalisation, CUDA IPC."""
