# SPDX-License-Identifier: Apache-2.0
"""The node `wam_driver`: our own driver of devices that have none, today the Inspire RH56 hand."""
