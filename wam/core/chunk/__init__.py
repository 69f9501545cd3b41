# SPDX-License-Identifier: Apache-2.0
"""Action chunks and the timeline they are spliced onto."""

from wam.core.chunk.action_chunk import ActionChunk

__all__ = ["ActionChunk"]
