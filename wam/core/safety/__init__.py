# SPDX-License-Identifier: Apache-2.0
"""The safety chain: filters that turn a chunk into value plus verdict."""
