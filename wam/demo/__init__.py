# SPDX-License-Identifier: Apache-2.0
"""`wam demo`: starts a simulated robot and the real nodes as processes, watches them, and reports."""
