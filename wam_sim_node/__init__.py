# SPDX-License-Identifier: Apache-2.0
"""The node `wam_sim`: a simulated robot behind the topics of its drivers."""
