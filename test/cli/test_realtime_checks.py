# SPDX-License-Identifier: Apache-2.0
"""`wam doctor` on a real-time computer: memory, cores, clock rate, network cards, as /proc and /sys show them."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from wam.cli.machine_check import Outcome
from wam.cli.machine_files import core_list, network_cards
from wam.cli.realtime_checks import (
    clock_rate_check,
    isolation_check,
    memory_lock_check,
    network_card_checks,
    realtime_checks,
    socket_buffer_check,
)

CPU = "sys/devices/system/cpu"
LATE = "Coalesce parameters for enp1:\nAdaptive RX: on  TX: off\nrx-usecs:\t50\nrx-frames:\t0\n"
RING = "Pre-set maximums:\nRX:\t\t4096\nTX:\t\t4096\nCurrent hardware settings:\nRX:\t\t256\nTX:\t\t256\n"
CARD = {
    "sys/class/net/enp1/type": "1",
    "sys/class/net/enp1/operstate": "up",
    "sys/class/net/enp1/speed": "1000",
    "sys/class/net/enp1/device/msi_irqs/130": "msix",
    "sys/class/net/enp1/statistics/rx_missed_errors": "0",
    "proc/irq/130/smp_affinity_list": "0-1",
}


def machine(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def silent(command: Sequence[str]) -> str:
    return ""


def ethtool(command: Sequence[str]) -> str:
    return {"-c": LATE, "-g": RING}[command[1]]


def test_a_machine_that_tells_nothing_gets_no_warning_and_no_failure(tmp_path: Path) -> None:
    """In a container /sys may be empty: what cannot be read is no fault."""
    outcomes = {check.outcome for check in realtime_checks(tmp_path, asking=silent)}
    assert outcomes <= {Outcome.OK, Outcome.INFO}


@pytest.mark.parametrize(
    ("limit", "outcome", "words"),
    [
        (resource.RLIM_INFINITY, Outcome.OK, "unlimited"),
        (2 * 2**30, Outcome.OK, "2048 MiB"),
        (8 * 2**20, Outcome.INFO, "8 MiB (recommended for a driver: unlimited)"),
    ],
)
def test_memory_that_may_be_swapped_out_is_a_hint(limit: int, outcome: Outcome, words: str) -> None:
    found = memory_lock_check(limit)
    assert found.outcome is outcome
    assert words in found.found
    assert bool(found.remedy) is (outcome is Outcome.INFO)


def test_a_list_of_cores_is_read_as_the_kernel_writes_it() -> None:
    assert core_list("2-3,6") == {2, 3, 6}
    assert core_list("") == frozenset()


def test_isolated_cores_are_named_and_none_is_a_hint(tmp_path: Path) -> None:
    assert isolation_check(tmp_path, cores=8).outcome is Outcome.INFO
    assert isolation_check(tmp_path, cores=4).remedy == "", "such a machine has none to spare"
    machine(tmp_path, {f"{CPU}/isolated": "2-3"})
    found = isolation_check(tmp_path, cores=8)
    assert (found.outcome, found.found) == (Outcome.OK, "cores 2,3 of 8")


def test_a_machine_that_keeps_one_core_for_all_else_is_a_warning(tmp_path: Path) -> None:
    machine(tmp_path, {f"{CPU}/isolated": "1-3"})
    found = isolation_check(tmp_path, cores=4)
    assert found.outcome is Outcome.WARN
    assert "1 left" in found.found


def test_a_governor_that_saves_power_and_a_deep_sleep_are_hints(tmp_path: Path) -> None:
    machine(
        tmp_path,
        {
            f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave",
            f"{CPU}/cpu1/cpufreq/scaling_governor": "performance",
            f"{CPU}/cpu0/cpuidle/state1/name": "C1",
            f"{CPU}/cpu0/cpuidle/state1/latency": "2",
            f"{CPU}/cpu0/cpuidle/state3/name": "C8",
            f"{CPU}/cpu0/cpuidle/state3/latency": "300",
        },
    )
    found = clock_rate_check(tmp_path)
    assert found.outcome is Outcome.INFO
    assert "powersave on 1 of 2" in found.found
    assert "C8, 300 us" in found.found
    assert "frequency-set -g performance" in found.remedy
    assert "idle-set -D 50" in found.remedy


def test_full_clock_rate_without_deep_sleep_is_all_right(tmp_path: Path) -> None:
    machine(
        tmp_path,
        {
            f"{CPU}/cpu0/cpufreq/scaling_governor": "performance",
            f"{CPU}/cpu0/cpuidle/state1/latency": "2",
            f"{CPU}/cpu0/cpuidle/state3/latency": "300",
            f"{CPU}/cpu0/cpuidle/state3/disable": "1",
        },
    )
    found = clock_rate_check(tmp_path)
    assert (found.outcome, found.remedy) == (Outcome.OK, "")


def test_a_card_that_reports_late_is_a_hint_with_the_command(tmp_path: Path) -> None:
    (found,) = network_card_checks(machine(tmp_path, CARD), asking=ethtool)
    assert (found.name, found.outcome) == ("network enp1", Outcome.INFO)
    assert (
        found.found == "1000 Mbit/s, reports packets after 50 us (recommended: 10 at most), ring 256 of 4096"
    )
    assert "ethtool -C enp1 adaptive-rx off rx-usecs 0" in found.remedy


def test_packets_missed_ask_for_the_largest_ring_that_the_card_has(tmp_path: Path) -> None:
    machine(tmp_path, {**CARD, "sys/class/net/enp1/statistics/rx_missed_errors": "17"})
    (found,) = network_card_checks(tmp_path, asking=lambda command: RING if command[1] == "-g" else "")
    assert "17 packets missed (expected: 0)" in found.found
    assert "ethtool -G enp1 rx 4096" in found.remedy


@pytest.mark.parametrize(("cores", "mixed"), [("0-3", True), ("0-1", False), ("2-3", False)])
def test_interrupts_are_on_isolated_cores_by_choice_only(tmp_path: Path, cores: str, mixed: bool) -> None:
    """On isolated cores alone they were put there; on all cores nobody chose."""
    files = {**CARD, "proc/irq/130/smp_affinity_list": cores, f"{CPU}/isolated": "2-3"}
    (found,) = network_card_checks(machine(tmp_path, files), asking=silent)
    assert ("isolated cores 2,3" in found.found) is mixed
    assert ("smp_affinity_list" in found.remedy) is mixed


def test_irqbalance_counts_where_cores_are_isolated(tmp_path: Path) -> None:
    machine(tmp_path, {**CARD, "proc/77/comm": "irqbalance"})
    assert network_card_checks(tmp_path, asking=silent)[0].outcome is Outcome.OK
    machine(tmp_path, {f"{CPU}/isolated": "2-3"})
    assert "irqbalance" in network_card_checks(tmp_path, asking=silent)[0].remedy


def test_wireless_virtual_and_can_interfaces_are_left_out(tmp_path: Path) -> None:
    machine(
        tmp_path,
        {
            **CARD,
            "sys/class/net/wlan0/type": "1",
            "sys/class/net/wlan0/device/vendor": "0x8086",
            "sys/class/net/wlan0/wireless/status": "0",
            "sys/class/net/docker0/type": "1",
            "sys/class/net/can0/type": "280",
            "sys/class/net/can0/device/vendor": "0x1",
        },
    )
    assert [card.name for card in network_cards(tmp_path)] == ["enp1"]


def test_a_card_without_msi_is_found_in_the_table_of_interrupts(tmp_path: Path) -> None:
    files = {name: text for name, text in CARD.items() if "msi_irqs" not in name}
    machine(tmp_path, {**files, "sys/class/net/enp1/device/vendor": "0x8086"})
    lines = "           CPU0  CPU1\n  9:  1  0  IO-APIC  acpi\n 41:  7  8  PCI  enp1-rx-0\n 42:  7  8  PCI  enp10\n"
    machine(tmp_path, {"proc/interrupts": lines})
    assert network_cards(tmp_path)[0].interrupts == (41,)


@pytest.mark.parametrize(("size", "outcome"), [("212992", Outcome.INFO), ("4194304", Outcome.OK)])
def test_small_socket_buffers_are_a_hint(tmp_path: Path, size: str, outcome: Outcome) -> None:
    found = socket_buffer_check(machine(tmp_path, {"proc/sys/net/core/rmem_max": size}))
    assert found.outcome is outcome
    assert ("rmem_max=4194304" in found.remedy) is (outcome is Outcome.INFO)
