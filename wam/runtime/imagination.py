# SPDX-License-Identifier: Apache-2.0
"""What a policy with a world model imagined, against what came: the error of its imagination. No rclpy, no torch.

A policy takes part by two optional parts: `Perceiving.perceive` of its planner, and `Imagining.imagination` of its
executor or `Foreseeing.foresee` of its planner (`wam.core.policy`). Both return the same features (an embedding, the
pixels of a decoded image), so that the comparison is the policy's own. "The future looks like the present" is the bar,
as standing still is for actions.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wam.core.clock import NS_PER_S
from wam.core.errors import PolicyFault
from wam.core.observation import Observation
from wam.core.policy import Features, Imagination, Perceiving

MAX_PENDING = 256
"""Futures kept at most; a policy that imagines further ahead than so many chunks has its oldest ones dropped."""

MAX_SEEN = 8
"""Observations that wait to be compared at most."""

TOLERANCE_PERIODS = 0.6
"""An image this far from the imagined time still counts, on either side, in periods of the slowest camera."""


@dataclass(frozen=True, slots=True)
class ImaginedFuture:
    """A future that waits for its time.

    Attributes:
        generation: of the chunk, or of the context, that it belongs to.
        sequence: of that chunk, or the version of that context.
        imagination: what is expected.
        observation: what it was imagined from.
    """

    generation: int
    sequence: int
    imagination: Imagination
    observation: Observation


@dataclass(frozen=True, slots=True)
class ImaginationError:
    """An imagined future was compared with the observation of its time.

    Attributes:
        generation: of the chunk, or of the context, that was predicted with it.
        sequence: of that chunk, or the version of that context.
        stamp_ns: image that it was imagined from [ns].
        target_stamp_ns: time that was imagined [ns].
        mse: mean squared distance of the imagined from the observed future, in the policy's own features.
        still_mse: the same of "the future looks like the present".
        cosine: cosine similarity of imagined and observed future.
    """

    generation: int
    sequence: int
    stamp_ns: int
    target_stamp_ns: int
    mse: float
    still_mse: float
    cosine: float


def tolerance_ns(rates: Sequence[float]) -> int:
    """Return how far an image may be from an imagined time [ns].

    Args:
        rates: of the policy's cameras [Hz].
    """
    return int(TOLERANCE_PERIODS * NS_PER_S / min(rates, default=1.0))


class ImaginationJudge:
    """Keeps every imagined future until an observation of its time has come.

    `due` and `see` may be called from any thread; all else by the thread that runs the policy.

    Args:
        perceiver: the policy's planner.
        tolerance_ns: an observation this far from the imagined time still counts, on either side [ns].
    """

    def __init__(self, perceiver: Perceiving, *, tolerance_ns: int) -> None:
        self._perceiver = perceiver
        self._tolerance_ns = tolerance_ns
        self._pending: deque[ImaginedFuture] = deque(maxlen=MAX_PENDING)
        self._seen: deque[Observation] = deque(maxlen=MAX_SEEN)
        self._newest_ns = 0
        self._lock = threading.Lock()

    def add(self, future: ImaginedFuture) -> None:
        """Add a future; they come in the order of their times."""
        with self._lock:
            self._pending.append(future)

    def clear(self) -> None:
        """Drop what is pending: the clock went back."""
        with self._lock:
            self._pending.clear()
            self._seen.clear()
            self._newest_ns = 0

    def due(self, now_ns: int) -> bool:
        """Return whether a future waits for an image of this time [ns], or of an earlier one, that was not seen."""
        with self._lock:
            return any(
                self._newest_ns < future.imagination.target_stamp_ns - self._tolerance_ns <= now_ns
                for future in self._pending
            )

    def see(self, observation: Observation) -> None:
        """Take the newest observation, where one is `due`."""
        with self._lock:
            if not self._seen or self._seen[-1].stamp_ns < observation.stamp_ns:
                self._seen.append(observation)
                self._newest_ns = observation.stamp_ns

    def compare(self) -> Iterator[ImaginationError]:
        """Compare the futures whose time has come with the observations seen.

        Raises:
            PolicyFault: what the policy imagined or perceived has other names, another shape, or is not finite.
        """
        while self._seen:
            with self._lock:
                observation = self._seen.popleft()
                ripe = []
                while self._pending and self._is_ripe(self._pending[0], observation.stamp_ns):
                    ripe.append(self._pending.popleft())
            near = [
                future
                for future in ripe
                if observation.stamp_ns - future.imagination.target_stamp_ns <= self._tolerance_ns
            ]  # no image came near the time of the others
            if not near:
                continue
            seen = self._perceiver.perceive(observation)
            for future in near:
                present = self._perceiver.perceive(future.observation)
                yield _compare(future, future.imagination.features(), seen, present)

    def _is_ripe(self, future: ImaginedFuture, stamp_ns: int) -> bool:
        return stamp_ns >= future.imagination.target_stamp_ns - self._tolerance_ns


def _compare(
    future: ImaginedFuture, imagined: Features, seen: Features, present: Features
) -> ImaginationError:
    shapes = [{name: array.shape for name, array in features.items()} for features in (imagined, seen)]
    if shapes[0] != shapes[1]:
        raise PolicyFault(
            "the policy imagines other features than it perceives",
            value=str(shapes[0]),
            allowed=str(shapes[1]),
            where="the features of its imagination and perceive() of its planner",
        )
    expected, real, now = (_flat(features) for features in (imagined, seen, present))
    if not np.isfinite(expected).all():
        raise PolicyFault("the imagined future is not finite", where="the weights of the policy")
    length = float(np.linalg.norm(expected) * np.linalg.norm(real))
    return ImaginationError(
        generation=future.generation,
        sequence=future.sequence,
        stamp_ns=future.imagination.stamp_ns,
        target_stamp_ns=future.imagination.target_stamp_ns,
        mse=float(np.mean((expected - real) ** 2)),
        still_mse=float(np.mean((now - real) ** 2)),
        cosine=float(expected @ real) / length if length > 0.0 else 0.0,
    )


def _flat(features: Features) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.concatenate([features[name].ravel() for name in sorted(features)]).astype(np.float64)
