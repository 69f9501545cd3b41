# SPDX-License-Identifier: Apache-2.0
"""What is a refusal of the machine is told by what caused an error, and by nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wam.bench.ledger import open_ledger
from wam.core.errors import (
    ConfigError,
    MachineFault,
    RecordingError,
    WamError,
    is_machine_fault,
    named_os_error,
)
from wam.data.bag import storage
from wam.devices.errors import LinkLost
from wam.devices.inspire.serial_link import SerialBus
from wam.models.normalisation import FieldStats, PolicyStats
from wam.policies.aha_wam import commands as aha_wam_commands
from wam.policies.aha_wam.convert.lerobot import convert_lerobot_fast_wam
from wam.policies.units import UnitStatements
from wam.robots.yaml_reader import read_yaml


def raise_while_handling(fault: BaseException, *, suppressed: bool) -> None:
    try:
        raise fault
    except OSError:
        if suppressed:
            raise ConfigError("another run writes to this file") from None
        raise_unchained()


def raise_unchained() -> None:
    raise ConfigError("piper.yaml: rate [Hz]", value=-1)


@pytest.mark.parametrize("suppressed", [True, False])
def test_an_error_while_a_refusal_is_handled_is_none_of_the_machine(suppressed: bool) -> None:
    """A mistake of the user ended with exit code 3 when a cache behind it could not be written."""
    fault = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ConfigError) as caught:
        raise_while_handling(fault, suppressed=suppressed)
    assert caught.value.__context__ is fault
    assert not is_machine_fault(caught.value)


NO_DATA = Path("/proc/self/mem")
"""A file that everybody, root included, may open, and that cannot be read: an input/output error."""


def read_robot(link: Path) -> None:
    read_yaml(link)


def read_units(link: Path) -> None:
    field = FieldStats.from_dict(
        {name: [1.0] for name in ("min", "max", "mean", "std", "q01", "q99")}, what="stats", width=1
    )
    UnitStatements(file=link).apply(PolicyStats(field, field), state_joints=("a",), action_joints=("a",))


def read_options(link: Path) -> None:
    aha_wam_commands._options(link, {})


def read_lerobot(link: Path) -> None:
    (link.parent / "config.json").symlink_to(NO_DATA)
    convert_lerobot_fast_wam(
        link.parent, link.parent / "out", state_joints=("a",), action_joints=("a",), control_rate=10.0
    )


@pytest.mark.parametrize("read", [read_robot, read_units, read_options, read_lerobot])
def test_a_file_that_the_disk_does_not_give_is_a_fault_of_the_machine(
    read: Callable[[Path], None], tmp_path: Path
) -> None:
    """What had caused the error was dropped where it was told."""
    if not NO_DATA.exists():
        pytest.skip(f"no {NO_DATA} here")
    link = tmp_path / "file.yaml"
    link.symlink_to(NO_DATA)
    with pytest.raises(WamError, match="cannot be read") as caught:
        read(link)
    assert is_machine_fault(caught.value)


def test_a_ledger_and_a_serial_port_without_permission_are_faults_of_the_machine() -> None:
    fixed = Path("/sys/devices/system/cpu/possible")
    if not fixed.exists():
        pytest.skip(f"no {fixed} here")
    with pytest.raises(ConfigError, match="cannot write") as caught, open_ledger(fixed.parent / "new", {}):
        pass
    assert is_machine_fault(caught.value)
    with pytest.raises(LinkLost, match="cannot be opened") as lost:
        SerialBus(str(fixed)).open()
    assert is_machine_fault(lost.value)


def test_a_damaged_bag_keeps_the_cause_that_its_first_reader_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second reader's error replaced what had caused the first one's."""

    def refuse(path: Path, *, message_zstd: bool) -> None:
        raise RecordingError("bag cannot be read") from PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(storage, "RosbagsFile", refuse)
    monkeypatch.setattr(storage, "is_cut_off", lambda path: False)
    bag = tmp_path / "bag.db3"
    bag.write_bytes(b"no data base")
    with pytest.raises(RecordingError, match="bag cannot be read") as caught:
        storage.open_storage(bag)
    assert is_machine_fault(caught.value)


@pytest.mark.parametrize(("number", "remedy"), [(errno.EMFILE, "ulimit -n"), (errno.ENFILE, "fs.file-max")])
def test_too_many_open_files_are_not_told_to_free_space(number: int, remedy: str) -> None:
    cause = OSError(number, os.strerror(number), "/data/x")
    assert is_machine_fault(cause)
    error = named_os_error(cause)
    assert isinstance(error, MachineFault)
    assert remedy in str(error)
    assert "free space" not in str(error)
