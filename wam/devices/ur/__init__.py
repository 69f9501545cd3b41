# SPDX-License-Identifier: Apache-2.0
"""Universal Robots: driver messages, recovery, simulated twin."""
