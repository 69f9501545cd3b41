# SPDX-License-Identifier: Apache-2.0
"""One folder per kind of device: rules, adapter, simulated twin, vendor launch; one registry row each."""
