# SPDX-License-Identifier: Apache-2.0
"""Every error that a user of the suite can meet.

    WamError                      something a person can fix; its text says what, value, allowed, where
    +-- ConfigError               a file or a parameter holds an illegal value
    +-- ContractMismatch          two sides were built for different policies or robots
    +-- BundleError               a policy bundle is missing, damaged or of another shape
    +-- InputError                a message or a recording cannot be used as it is
    |   +-- ImageError            an image has another size, encoding or step
    |   |   +-- DamagedImage      bytes of it are missing or wrong; the next image may be whole
    |   +-- JointError            joint names, widths or values do not fit
    |   +-- StaleObservation      the newest sample is older than its budget, or there is none yet
    |   +-- ChunkRefused          an action chunk was not admitted (wam.core.chunk.admission)
    +-- RecordingError            a bag or a data set is truncated, unsupported or lacks a topic
    +-- ContextError              a planner context cannot be used
    |   +-- ContextReleased       it was read after its lease was released
    |   +-- ContextRecycled       its memory now belongs to another context
    |   +-- StaleContext          it is older than the horizon it can serve
    |   |   +-- StaleChunk        every row of a chunk is in the past (wam.core.chunk.splice)
    |   +-- HandleRefused         its handle is malformed or belongs to another process
    +-- PolicyFault               a policy produced a value that must not reach a robot
    |   +-- UndecodableChunk      the sampled tokens do not decode to an action; the next chunk may
    |   +-- StageFailed           a backend failed in a stage; from the next chunk on the stage runs as it is written
    +-- PlanUnsafe                a motion to rest leaves the limits (wam.core.trajectory.rollout)
    +-- CheckerSilent             a collision checker did not answer (wam.core.safety.collision)
    +-- LinkError                 a device cannot be reached over its link (wam.devices.errors)
    |   +-- LinkTimeout           it did not answer in time
    |   +-- LinkLost              the link itself is gone
    |   +-- FrameError            its answer is malformed
    |   +-- DeviceRefused         it answered with an error of its own
    +-- StageUnavailable          a backend cannot run a stage here (wam.models.backends.backend)
    +-- MissingDependency         an optional part is not installed
    +-- MachineFault              this machine refused: disk, permission, display; never a result of what was run
    |   +-- CannotRender          images cannot be rendered here; also a MissingDependency
    +-- WorldDiverged             a simulated world became unstable (wam.sim.world)
    +-- Unreachable               a scripted expert cannot reach a pose (wam.sim.experts)
    +-- RobotHeld                 another safety node commands the robot (wam.runtime.safety.lease)
    +-- StackFailed               the nodes could not be started or have ended (wam.stack)

An error that only one module raises is defined there, named in brackets. `ValueError` is kept for internal invariants
and impossible sizes given to a constructor.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from wam.core.suggest import did_you_mean

DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})
PERMISSION = frozenset({errno.EACCES, errno.EPERM})
OPEN_FILES = {
    errno.EMFILE: "raise the limit of open files per process (`ulimit -n`)",
    errno.ENFILE: "end other programs, or raise the limit of open files of the machine (`sysctl fs.file-max`)",
}
"""Error number of too many open files -> what helps."""


class WamError(Exception):
    """An error that a person can fix.

    Args:
        what: the thing that is wrong, with its place ("piper.yaml: groups[0].joints").
        value: the offending value; omitted from the text when it is None.
        allowed: what would have been accepted, with unit.
        where: the file, parameter or command that changes it.
        known: the names of which `value` had to be one: a name that is like it is suggested; for a list of values, one
            that is like the first. They are what is allowed, where `allowed` says nothing else.
        by_part: a part of a name between slashes is enough to suggest it.
    """

    def __init__(
        self,
        what: str,
        *,
        value: object = None,
        allowed: str | None = None,
        where: str | None = None,
        known: Iterable[str] = (),
        by_part: bool = False,
    ) -> None:
        names = list(known)
        if names and allowed is None:
            allowed = ", ".join(names)
        self.what = what
        self.value = value
        self.allowed = allowed
        self.where = where
        text = what
        if value is not None:
            text += f": got {value!r}" if isinstance(value, str) else f": got {value}"
            word = value[0] if isinstance(value, list | tuple) and value else value
            text += did_you_mean(str(word), names, by_part=by_part)
        if allowed:
            text += f"; allowed: {allowed}"
        if where:
            text += f"; change it in {where}"
        super().__init__(text)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it with what only its cause tells, which another process does not get."""
        return type(self), self.args, {**vars(self), "of_machine": is_machine_fault(self)}


class ConfigError(WamError):
    """A file or a parameter holds an illegal value, an unknown key, or lacks a required one."""


class ContractMismatch(WamError):
    """Two sides that must agree (bundle, robot, context, chunk) were built for different contracts."""


class BundleError(WamError):
    """A policy bundle is missing a file, is damaged, or has tensors of other names or shapes."""


class InputError(WamError):
    """A message cannot be used as it is."""


class ImageError(InputError):
    """An image has another size, encoding or row step than the robot file and the policy expect."""


class DamagedImage(ImageError):
    """Bytes of an image are missing or wrong; others of its camera may be whole."""


class JointError(InputError):
    """Joint names, widths or values of a message do not fit the robot file."""


class StaleObservation(InputError):
    """The newest sample of a stream is older than its budget, or nothing has arrived yet."""


class RecordingError(WamError):
    """A bag or a data set is truncated, in an unsupported format, or lacks a topic."""


class ContextError(WamError):
    """A planner context cannot be used."""


class ContextReleased(ContextError):
    """A planner context was read after its lease had been released or its planner had gone."""


class ContextRecycled(ContextError):
    """The memory named by a handle now belongs to another context."""


class StaleContext(ContextError):
    """A planner context is older than the horizon of rows it can serve."""


class HandleRefused(ContextError):
    """A context handle is malformed, too large, or owned by another user or process; nothing was mapped."""


class PolicyFault(WamError):
    """A policy produced a value (non-finite, wrong shape) that must not reach a robot."""


class UndecodableChunk(PolicyFault):
    """The sampled tokens do not decode to an action. Nothing is published; the next chunk may decode."""


class StageFailed(PolicyFault):
    """A stage failed on its backend while it ran. Nothing is published; afterwards it runs as it is written.

    Args:
        what: as `WamError`.
        stage: its name.
        options: as `WamError`.
    """

    def __init__(self, what: str, *, stage: str = "", **options: Any) -> None:
        super().__init__(what, **options)
        self.stage = stage


class MissingDependency(WamError):
    """An optional part is not installed; the text names it and how to get it."""


class MachineFault(WamError):
    """This machine refused: its disk, a permission, its display. Whoever books results lets it pass."""


class CannotRender(MachineFault, MissingDependency):
    """Images cannot be rendered on this machine."""


def is_machine_fault(error: BaseException) -> bool:
    """Return whether an error, or what caused it, is a refusal of this machine: disk, permission or display.

    Such an error says nothing about a policy, an expert or a recording. Code that turns errors into results asks
    this first and raises it again. What caused an error is what it was raised `from`; one that was only being handled
    at the time is no cause.
    """
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if isinstance(one, MachineFault) or getattr(one, "of_machine", False):
            return True
        if isinstance(one, OSError) and one.errno in DISK | PERMISSION | OPEN_FILES.keys():
            return True
        seen.add(id(one))
        one = one.__cause__
    return False


def named_os_error(error: OSError) -> WamError:
    """Return an `OSError` that nobody has named yet as an error with place, reason and remedy."""
    place = f"{error.filename}: " if error.filename is not None else ""
    text = f"{place}{error.strerror or error}"
    if error.errno in PERMISSION:
        return MachineFault(f"{text}; change its permissions, or take another place")
    if error.errno in DISK:
        return MachineFault(f"{text}; free space on its disk, or take another place")
    if error.errno in OPEN_FILES:
        return MachineFault(f"{text}; {OPEN_FILES[error.errno]}")
    return WamError(text)
