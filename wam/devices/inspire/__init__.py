# SPDX-License-Identifier: Apache-2.0
"""The Inspire RH56 hand: registers, serial frames (DFX), Modbus-TCP (E2, FTP), a mock, and the hand above them."""
