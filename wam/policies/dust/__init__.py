# SPDX-License-Identifier: Apache-2.0
"""DUST: dual-stream diffusion of an action chunk and of the image embedding that follows it."""
