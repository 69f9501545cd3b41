# SPDX-License-Identifier: Apache-2.0
"""Training DUST: samples, features, objective."""
