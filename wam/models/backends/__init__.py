# SPDX-License-Identifier: Apache-2.0
"""Ways to run the stages of inference: eager, and captured as CUDA graphs."""
