# SPDX-License-Identifier: Apache-2.0
"""A policy plays simulated tasks in this process; scores, films, report."""
