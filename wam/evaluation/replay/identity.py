# SPDX-License-Identifier: Apache-2.0
"""Whether two reports are of one recording: by what it holds; by name and start where a report has no hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wam.core.errors import RecordingError

DIGITS = 16
"""Digits of a hash in texts; summary.json has them all."""

MAX_TOPICS = 4
"""Topics that an error names."""


def require_same_recording(
    reports: Sequence[Path], recordings: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """Check that two replays were of one recording; return a sentence for each thing that limits this.

    Topics that both replays read decide, by the hash of their messages: another policy may look at fewer cameras.

    Args:
        reports: both report folders.
        recordings: `recording` of both summaries.

    Raises:
        RecordingError: they are of two recordings, or have no topic in common.
    """
    first, second = recordings
    if not all("content_hash" in recording for recording in recordings):
        for key, what in (("name", "recording"), ("start_ns", "start of the recording")):
            if first[key] != second[key]:
                raise _refusal(reports, f"they have another {what}", [first[key], second[key]])
        return (
            "a report was written before recordings had a content hash: that both are of one recording is known by "
            "its name and start alone (replay it again to be sure)",
        )
    if first["content_hash"] == second["content_hash"]:
        return ()
    hashes = [
        {topic: told["content_hash"] for topic, told in recording["topics"].items()}
        for recording in recordings
    ]
    common = [topic for topic in hashes[0] if topic in hashes[1]]
    if not common:
        raise _refusal(reports, "they have no topic in common", [sorted(hashes[0]), sorted(hashes[1])])
    unlike = [topic for topic in common if hashes[0][topic] != hashes[1][topic]]
    if unlike:
        raise RecordingError(
            f"{reports[0]} and {reports[1]} cannot be compared: they are of two recordings (named {first['name']} and "
            f"{second['name']}), which differ in {', '.join(unlike[:MAX_TOPICS])}"
            f"{' and more' if len(unlike) > MAX_TOPICS else ''}",
            value=f"content_hash {first['content_hash'][:DIGITS]} and {second['content_hash'][:DIGITS]}",
            allowed="two replays of one recording",
            where=f"the arguments A and B: replay {first['name']} with both policies, and compare those reports",
        )
    return tuple(
        f"only {name} read {', '.join(alone)}; the topics that both read are the same"
        for name, alone in (
            ("A", [topic for topic in hashes[0] if topic not in hashes[1]]),
            ("B", [topic for topic in hashes[1] if topic not in hashes[0]]),
        )
        if alone
    )


def _refusal(reports: Sequence[Path], why: str, have: list[Any]) -> RecordingError:
    return RecordingError(
        f"{reports[0]} and {reports[1]} cannot be compared: {why}",
        value=f"{have[0]} and {have[1]}",
        allowed="two replays of one recording",
        where="the arguments A and B",
    )
