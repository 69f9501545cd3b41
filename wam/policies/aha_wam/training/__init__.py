# SPDX-License-Identifier: Apache-2.0
"""Training AHA-WAM: samples, latents, objective, distillation."""
