# SPDX-License-Identifier: Apache-2.0
"""The checks of `wam doctor` on what a real-time computer is set up for: memory, cores, clock rate, network cards.

They are hints: a machine without an arm needs none of it, and a driver at 100 Hz little. Each finding says what it is,
its value and what is recommended; docs/how-to/real-time.md tells how each is set for good.
"""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

from wam.cli.machine_check import Check, Outcome
from wam.cli.machine_files import (
    ROOT,
    NetworkCard,
    deepest_idle_us,
    governors,
    interrupt_cores,
    isolated_cores,
    network_cards,
    read_text,
    runs,
)
from wam.cli.timing_checks import Ask, ask

HOW_TO = "docs/how-to/real-time.md"

MIN_MEMLOCK_BYTES = 2**30
"""Memory that a driver may keep from being swapped out; controller_manager locks all that it has."""

MIN_CORES_TO_ISOLATE = 6
"""Cores of a machine that can spare two."""

MAX_IDLE_US = 50
"""Longest wake-up from an idle state of a core [us]: a twentieth of a driver's period at 1 kHz."""

MIN_SPEED_MBIT = 1000
MAX_COALESCING_US = 10
"""Longest wait of a network card before it reports a packet [us]: a hundredth of a period at 1 kHz."""

MIN_BUFFER_BYTES = 4 * 2**20
"""Receive buffer of a socket that holds the images of a few cameras; see docs/how-to/two-computers.md."""


def realtime_checks(root: Path = ROOT, *, asking: Ask = ask) -> list[Check]:
    """Return all checks of this module; see there.

    Args:
        root: holds `proc` and `sys`.
        asking: runs ethtool.
    """
    return [
        memory_lock_check(),
        isolation_check(root),
        clock_rate_check(root),
        *network_card_checks(root, asking=asking),
        socket_buffer_check(root),
    ]


def memory_lock_check(limit_bytes: int | None = None) -> Check:
    """Say how much memory this user may lock.

    Args:
        limit_bytes: the limit, `resource.RLIM_INFINITY` for none; None asks.
    """
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] if limit_bytes is None else limit_bytes
    if limit in (resource.RLIM_INFINITY, -1):
        return Check("memory lock", Outcome.OK, "memlock limit: unlimited")
    found = f"memlock limit: {limit / 2**20:.0f} MiB (recommended for a driver: unlimited)"
    if limit >= MIN_MEMLOCK_BYTES:
        return Check("memory lock", Outcome.OK, found)
    remedy = (
        "a driver whose memory is swapped out is late: `@realtime - memlock unlimited` in "
        f"/etc/security/limits.d/realtime.conf; log in again ({HOW_TO})"
    )
    return Check("memory lock", Outcome.INFO, found, remedy)


def isolation_check(root: Path = ROOT, cores: int | None = None) -> Check:
    """Say which cores the scheduler leaves to whoever asks for them by name.

    Args:
        root: holds `sys`.
        cores: of this machine; None asks.
    """
    total = cores or os.cpu_count() or 1
    isolated = isolated_cores(root)
    if not isolated and total < MIN_CORES_TO_ISOLATE:
        return Check(
            "core isolation",
            Outcome.OK,
            f"none of {total} cores (with fewer than {MIN_CORES_TO_ISOLATE}: none)",
        )
    if not isolated:
        found = f"none of {total} cores (recommended for a driver at 500-1000 Hz: one or two)"
        remedy = f"kernel options isolcpus=managed_irq,domain,2-3 nohz_full=2-3 rcu_nocbs=2-3, then taskset ({HOW_TO})"
        return Check("core isolation", Outcome.INFO, found, remedy)
    names = ",".join(str(core) for core in sorted(isolated))
    if total - len(isolated) < 2:
        found = f"cores {names} of {total}; {total - len(isolated)} left (needed for all else: 2)"
        return Check("core isolation", Outcome.WARN, found, f"isolate fewer cores ({HOW_TO})")
    return Check("core isolation", Outcome.OK, f"cores {names} of {total}")


def clock_rate_check(root: Path = ROOT) -> Check:
    """Say whether cores are kept at their full clock rate, and how long the deepest sleep takes to end."""
    found, remedies = [], []
    by_name = governors(root)
    slow = {name: count for name, count in by_name.items() if name != "performance"}
    if not by_name:
        found.append("governor: none here (a virtual machine, or the firmware decides)")
    else:
        listed = ", ".join(f"{name} on {count} of {sum(by_name.values())}" for name, count in by_name.items())
        found.append(f"governor: {listed} cores{' (recommended: performance)' if slow else ''}")
    if slow:
        remedies.append(f"sudo cpupower frequency-set -g performance ({HOW_TO})")
    idle = deepest_idle_us(root)
    if idle is not None:
        deep = idle[1] > MAX_IDLE_US
        found.append(
            f"deepest sleep: {idle[0]}, {idle[1]} us{f' (recommended: {MAX_IDLE_US} at most)' if deep else ''}"
        )
        if deep:
            remedies.append(f"sudo cpupower idle-set -D {MAX_IDLE_US} ({HOW_TO})")
    return Check(
        "clock rate", Outcome.INFO if remedies else Outcome.OK, "; ".join(found), "\n".join(remedies)
    )


def network_card_checks(root: Path = ROOT, *, asking: Ask = ask) -> list[Check]:
    """Say of every wired card with a link what delays or drops the packets of a robot: rate, interrupts, ring.

    Args:
        root: holds `proc` and `sys`.
        asking: runs ethtool; without it, ring and waiting time are not known.
    """
    isolated = isolated_cores(root)
    moved = runs("irqbalance", root) and bool(isolated)
    return [
        _card_check(card, root, isolated=isolated, balanced=moved, asking=asking)
        for card in network_cards(root)
        if card.is_up
    ]


def _card_check(
    card: NetworkCard, root: Path, *, isolated: frozenset[int], balanced: bool, asking: Ask
) -> Check:
    found, remedies = [], []
    if card.speed_mbit is not None:
        slow = card.speed_mbit < MIN_SPEED_MBIT
        found.append(f"{card.speed_mbit} Mbit/s{f' (recommended: {MIN_SPEED_MBIT})' if slow else ''}")
        if slow:
            remedies.append("another cable or port: raw images of one camera take 220 Mbit/s")
    waits = _number(asking(["ethtool", "-c", card.name]), "rx-usecs")
    if waits is not None:
        late = waits > MAX_COALESCING_US
        found.append(
            f"reports packets after {waits} us{f' (recommended: {MAX_COALESCING_US} at most)' if late else ''}"
        )
        if late:
            remedies.append(
                f"if the robot is on it: sudo ethtool -C {card.name} adaptive-rx off rx-usecs 0 ({HOW_TO})"
            )
    ring = asking(["ethtool", "-g", card.name])
    sizes = [int(size) for size in re.findall(r"^RX:\s+(\d+)", ring, re.MULTILINE)]
    if len(sizes) == 2:
        found.append(f"ring {sizes[1]} of {sizes[0]}")
    if card.missed:
        found.append(f"{card.missed} packets missed (expected: 0)")
        largest = str(sizes[0]) if sizes else "4096"
        remedies.append(f"a larger ring: sudo ethtool -G {card.name} rx {largest} ({HOW_TO})")
    cores = frozenset[int]().union(*(interrupt_cores(number, root) for number in card.interrupts))
    strangers = cores & isolated
    if strangers and not cores <= isolated:
        names = ",".join(str(core) for core in sorted(strangers))
        found.append(f"interrupts also on isolated cores {names}")
        remedies.append(f"write the cores that are meant into /proc/irq/N/smp_affinity_list ({HOW_TO})")
    if balanced:
        found.append("irqbalance moves interrupts")
        remedies.append(
            f"sudo systemctl disable --now irqbalance, where interrupts were given cores by hand ({HOW_TO})"
        )
    outcome = Outcome.INFO if remedies else Outcome.OK
    return Check(f"network {card.name}", outcome, ", ".join(found) or "with a link", "\n".join(remedies))


def socket_buffer_check(root: Path = ROOT) -> Check:
    """Say whether a socket can hold the images that come from another computer."""
    text = read_text(root, "proc/sys/net/core/rmem_max")
    if not text.isdigit():
        return Check("socket buffers", Outcome.OK, "not known")
    found = f"net.core.rmem_max {int(text)}"
    if int(text) >= MIN_BUFFER_BYTES:
        return Check("socket buffers", Outcome.OK, found)
    remedy = (
        f"for raw images from another computer: sudo sysctl -w net.core.rmem_max={MIN_BUFFER_BYTES} "
        f"net.core.rmem_default={MIN_BUFFER_BYTES} (docs/how-to/two-computers.md)"
    )
    found += f" bytes (recommended: {MIN_BUFFER_BYTES})"
    return Check("socket buffers", Outcome.INFO, found, remedy)


def _number(answer: str, name: str) -> int | None:
    match = re.search(rf"^{name}:\s+(\d+)", answer, re.MULTILINE)
    return int(match[1]) if match else None
