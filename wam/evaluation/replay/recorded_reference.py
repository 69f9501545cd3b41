# SPDX-License-Identifier: Apache-2.0
"""What the chunks of a replay are compared with: the commands of a recording, or its joint states where it has none."""

from __future__ import annotations

from wam.core.contract import PolicyContract
from wam.core.errors import RecordingError
from wam.data.bag.binding import Binding, Feed, Role
from wam.data.bag.commands import CommandReader, CommandSample
from wam.data.bag.joint_names import RecordedJoints
from wam.data.bag.joint_samples import JointSamples
from wam.data.bag.publisher_watch import PublisherWatch
from wam.data.bag.stamps import BagMessage
from wam.evaluation.replay.engine import ReplayOptions
from wam.robots.description import RobotDescription

REFERENCE_GAP_ROWS = 3
"""The reference is not interpolated between samples more than this many rows apart."""


class RecordedReference:
    """Reads the reference from the messages of a recording.

    Args:
        options: bag, times and leniency.
        binding: what the topics are.
        robot: robot of the recording.
        contract: of the policy.
        watch: looks at the commands as well.

    Attributes:
        samples: positions by joint and time.
        from_action: whether they are commands, and not measured states.
    """

    def __init__(
        self,
        options: ReplayOptions,
        binding: Binding,
        robot: RobotDescription,
        contract: PolicyContract,
        watch: PublisherWatch,
    ) -> None:
        self._bag, self._lenient = options.bag, options.lenient
        self._binding = binding
        self._watch = watch
        self.samples = JointSamples(
            contract.action_joints, max_gap_ns=REFERENCE_GAP_ROWS * contract.control_period_ns
        )
        self.from_action = binding.first(Role.ACTION) is not None
        self._commands = {
            feed.topic: CommandReader(
                feed.msgtype, step_ns=contract.control_period_ns, use_stamps=options.use_stamps
            )
            for feed in binding.feeds.values()
            if feed.role is (Role.ACTION if self.from_action else Role.JOINTS)
        }
        self._joints = RecordedJoints(robot, wanted=contract.action_joints)

    def reads(self, feed: Feed) -> bool:
        """Return whether the messages of a topic are part of the reference."""
        return feed.topic in self._commands

    def take(self, message: BagMessage, feed: Feed) -> None:
        """Add what a message holds; `feed` is its topic, and the reference reads it.

        Raises:
            RecordingError: it is damaged or does not fit the robot (unless lenient).
        """
        for sample in self._commands[feed.topic].take(message):
            self._add(sample, feed)

    def finish(self, last_ns: int) -> None:
        """Add what was held back, up to the time of the last message.

        Raises:
            RecordingError: as `take`.
        """
        for topic, reader in self._commands.items():
            for sample in reader.rest(last_ns):
                self._add(sample, self._binding.feeds[topic])

    def _add(self, sample: CommandSample, feed: Feed) -> None:
        try:
            index, positions = self._joints.read(sample, feed)
        except RecordingError:
            if self._lenient:
                return
            raise
        damaged = bool(sample.names) and len(sample.names) != len(sample.positions)
        if damaged and not self._lenient:
            raise RecordingError(
                f"action in {feed.topic} of {self._bag} is damaged",
                value=f"names {list(sample.names)}, {len(sample.positions)} positions",
                allowed="one position per name",
                where="--action-topic, or pass --lenient",
            )
        if feed.role is Role.ACTION:
            self._watch.take(sample, feed)
        # A message without any of the policy's joints is for others: the wheels, or the other arm.
        if len(index):
            self.samples.add(feed.topic, sample.time_ns, index, positions)
