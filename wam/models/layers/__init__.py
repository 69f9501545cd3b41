# SPDX-License-Identifier: Apache-2.0
"""Building blocks that several policies share: attention, rotary embedding, norms, time embedding, flow."""
