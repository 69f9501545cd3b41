# SPDX-License-Identifier: Apache-2.0
"""What a policy with a world model imagined, against what came: the error of its imagination.

A policy takes part by two optional parts, `Imagining.imagination` of its executor and `Perceiving.perceive` of its
planner (`wam.core.policy`). Both return the same features (an embedding, the pixels of a decoded image), so that the
comparison is the policy's own. "The future looks like the present" is the bar, as standing still is for actions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from wam.core.errors import PolicyFault
from wam.core.observation import Observation
from wam.core.policy import Features, Perceiving
from wam.evaluation.replay.engine import ChunkEvent, ImaginationEvent

MAX_PENDING = 256
"""Futures kept at most; a policy that imagines further ahead than so many chunks has its oldest ones dropped."""


class ImaginationErrors:
    """Keeps every imagined future until an observation of its time has come.

    Args:
        perceiver: the policy's planner.
        tolerance_ns: an observation this far from the imagined time still counts, on either side [ns].
    """

    def __init__(self, perceiver: Perceiving, *, tolerance_ns: int) -> None:
        self._perceiver = perceiver
        self._tolerance_ns = tolerance_ns
        self._pending: deque[ChunkEvent] = deque(maxlen=MAX_PENDING)

    def add(self, event: ChunkEvent) -> None:
        """Add a chunk; one without an imagined future is ignored."""
        if event.imagination is not None:
            self._pending.append(event)

    def clear(self) -> None:
        """Drop what is pending: the clock went back."""
        self._pending.clear()

    def compare_due(self, now_ns: int, observe: Callable[[int], Observation]) -> Iterator[ImaginationEvent]:
        """Compare the futures whose time has come.

        Args:
            now_ns: time of the newest image [ns].
            observe: returns the newest observation at a time; called only when a future is due.

        Raises:
            InputError: there is no observation now.
            PolicyFault: what the policy imagined or perceived has other names, another shape, or is not finite.
        """
        if not self._due(now_ns):
            return
        observation = observe(now_ns)
        seen = self._perceiver.perceive(observation)
        while self._due(observation.stamp_ns):
            event = self._pending.popleft()
            assert event.imagination is not None
            if observation.stamp_ns - event.imagination.target_stamp_ns > self._tolerance_ns:
                continue  # no image came near that time
            present = self._perceiver.perceive(event.observation)
            yield _compare(event, event.imagination.features(), seen, present, now_ns)

    def _due(self, now_ns: int) -> bool:
        if not self._pending:
            return False
        imagination = self._pending[0].imagination
        assert imagination is not None
        return now_ns >= imagination.target_stamp_ns - self._tolerance_ns


def _compare(
    event: ChunkEvent, imagined: Features, seen: Features, present: Features, now_ns: int
) -> ImaginationEvent:
    shapes = [{name: array.shape for name, array in features.items()} for features in (imagined, seen)]
    if shapes[0] != shapes[1]:
        raise PolicyFault(
            "the policy imagines other features than it perceives",
            value=str(shapes[0]),
            allowed=str(shapes[1]),
            where="the features of its imagination and perceive() of its planner",
        )
    future, real, now = (_flat(features) for features in (imagined, seen, present))
    if not np.isfinite(future).all():
        raise PolicyFault("the imagined future is not finite", where="the weights of the policy")
    assert event.imagination is not None
    length = float(np.linalg.norm(future) * np.linalg.norm(real))
    return ImaginationEvent(
        time_ns=now_ns,
        generation=event.chunk.generation,
        sequence=event.chunk.sequence,
        stamp_ns=event.imagination.stamp_ns,
        target_stamp_ns=event.imagination.target_stamp_ns,
        mse=float(np.mean((future - real) ** 2)),
        still_mse=float(np.mean((now - real) ** 2)),
        cosine=float(future @ real) / length if length > 0.0 else 0.0,
    )


def _flat(features: Features) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.concatenate([features[name].ravel() for name in sorted(features)]).astype(np.float64)
