# SPDX-License-Identifier: Apache-2.0
"""AgileX Piper: driver messages, enabling and faults, simulated twin."""
