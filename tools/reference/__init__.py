# SPDX-License-Identifier: Apache-2.0
"""Reference pages made from the code: `python -m tools.reference` writes them, `--check` compares them."""
