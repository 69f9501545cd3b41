# SPDX-License-Identifier: Apache-2.0
"""AHA-WAM: a slow video DiT plans, a fast action DiT executes (paper: arXiv 2606.09811)."""
