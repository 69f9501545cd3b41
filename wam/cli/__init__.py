# SPDX-License-Identifier: Apache-2.0
"""The `wam` command: thin verbs over library functions, one module per verb.

Nothing is imported here, so that `wam --help` answers at once and a verb whose optional part is missing leaves the
others alone.
"""
