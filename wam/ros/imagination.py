# SPDX-License-Identifier: Apache-2.0
"""The error of a policy's imagination, measured by the node that runs the policy and published as it is found.

The policy is in that process, so the comparison has to be there too. It costs the perception of two images for each
future (and what the future itself costs), which is why it is made only on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.qos import QoSProfile

from wam.core.clock import Clock
from wam.core.errors import InputError
from wam.core.observation import Observation
from wam.core.policy import Imagination, Perceiving
from wam.ros.ingest import RosIngest
from wam.ros.qos import EVENT
from wam.runtime.imagination import ImaginationError, ImaginationJudge, ImaginedFuture, tolerance_ns

TOPIC = "~/imagination_error"


class Owner(Protocol):
    """The node that runs the policy."""

    @property
    def clock(self) -> Clock:
        """Its time."""

    def add_publisher(self, kind: type[Any], topic: str, qos: QoSProfile) -> Any:
        """Make a publisher that lives until cleanup."""


class ImaginationWatch:
    """Compares what a policy imagined with the images as they come.

    All methods are for the thread that runs the policy; images are noted in the threads in which they come.

    Args:
        node: owns the topic `~/imagination_error`.
        ingest: gives the observations.
        perceiver: the policy's planner.
        rates: of the policy's cameras [Hz].
    """

    def __init__(
        self, node: Owner, ingest: RosIngest, perceiver: Perceiving, *, rates: Sequence[float]
    ) -> None:
        self._clock, self._ingest = node.clock, ingest
        self._judge = ImaginationJudge(perceiver, tolerance_ns=tolerance_ns(rates))
        self._topic = node.add_publisher(DiagnosticStatus, TOPIC, EVENT)
        self._observation: Observation | None = None
        ingest.on_image(self._look)

    def observe(self, now_ns: int) -> Observation:
        """Return the newest observation, as `RosIngest.observe`, and note it as what the next future comes from."""
        self._observation = self._ingest.observe(now_ns)
        return self._observation

    def expect(self, generation: int, sequence: int, imagination: Imagination | None) -> None:
        """Let a future wait for its time; None is ignored.

        Args:
            generation: of the chunk or context.
            sequence: number of the chunk, or version of the context.
            imagination: what is expected.
        """
        if imagination is not None and self._observation is not None:
            self._judge.add(ImaginedFuture(generation, sequence, imagination, self._observation))

    def publish(self) -> None:
        """Compare and publish what has come true, or not.

        Raises:
            PolicyFault: what the policy imagined or perceived has other names, another shape, or is not finite.
        """
        for error in self._judge.compare():
            self._topic.publish(error_to_message(error))

    def close(self) -> None:
        """Look at no more images; safe to call twice."""
        self._ingest.off_image(self._look)
        self._judge.clear()

    def _look(self) -> None:
        now_ns = self._clock.now_ns()
        if not self._judge.due(now_ns):
            return
        try:
            self._judge.see(self._ingest.observe(now_ns))
        except InputError:
            return  # a stream is stale; the futures wait for the next image, or pass


def error_to_message(error: ImaginationError) -> DiagnosticStatus:
    """Return an error as a status whose values are its fields."""
    values = [KeyValue(key=one.name, value=repr(getattr(error, one.name))) for one in fields(error)]
    return DiagnosticStatus(level=DiagnosticStatus.OK, name="imagination", values=values)


def message_to_error(message: Any) -> ImaginationError:
    """Return the error that a message of `error_to_message` holds.

    Raises:
        InputError: it is no such message.
    """
    try:
        values = {str(one.key): str(one.value) for one in message.values}
        return ImaginationError(
            generation=int(values["generation"]),
            sequence=int(values["sequence"]),
            stamp_ns=int(values["stamp_ns"]),
            target_stamp_ns=int(values["target_stamp_ns"]),
            mse=float(values["mse"]),
            still_mse=float(values["still_mse"]),
            cosine=float(values["cosine"]),
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"a message is no error of an imagination ({error})", where=TOPIC) from error
