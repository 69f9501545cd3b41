# SPDX-License-Identifier: Apache-2.0
"""UD-VLA: future image and action decoded together by discrete denoising (JD3P), on one Emu3 decoder."""
