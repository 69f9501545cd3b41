# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells in /proc and /sys about a machine that a robot's driver or the command stream runs on.

Each function reads below a root, which a test replaces by a folder of its own. Nothing is changed, and what cannot be
read is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """A wired network card.

    Attributes:
        name: of the interface.
        is_up: whether it has a link.
        speed_mbit: of the link [Mbit/s]; None where the driver does not say.
        missed: packets that came while its ring was full, since it was started.
        interrupts: numbers of its interrupts.
    """

    name: str
    is_up: bool
    speed_mbit: int | None = None
    missed: int = 0
    interrupts: tuple[int, ...] = ()


def read_text(root: Path, path: str) -> str:
    """Return the content of a file below `root` without space at its ends; "" where it cannot be read."""
    try:
        return (root / path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def core_list(text: str) -> frozenset[int]:
    """Return the cores of a kernel's list such as `2-3,6`.

    Raises:
        ValueError: it is no such list.
    """
    cores: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return frozenset(cores)


def isolated_cores(root: Path = ROOT) -> frozenset[int]:
    """Return the cores that the scheduler leaves alone (`isolcpus`)."""
    try:
        return core_list(read_text(root, "sys/devices/system/cpu/isolated"))
    except ValueError:
        return frozenset()


def governors(root: Path = ROOT) -> dict[str, int]:
    """Return how many cores each frequency governor has; empty where the clock rate is not Linux's to choose."""
    found: dict[str, int] = {}
    for path in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")):
        name = read_text(path.parent, path.name)
        if name:
            found[name] = found.get(name, 0) + 1
    return found


def deepest_idle_us(root: Path = ROOT) -> tuple[str, int] | None:
    """Return name and wake-up time [us] of the deepest idle state that is allowed on the first core, or None."""
    deepest: tuple[str, int] | None = None
    for state in sorted((root / "sys/devices/system/cpu/cpu0/cpuidle").glob("state[0-9]*")):
        latency = read_text(state, "latency")
        allowed = read_text(state, "disable") != "1"
        if allowed and latency.isdigit() and (deepest is None or int(latency) > deepest[1]):
            deepest = (read_text(state, "name") or state.name, int(latency))
    return deepest


def network_cards(root: Path = ROOT) -> tuple[NetworkCard, ...]:
    """Return the wired network cards: interfaces of a device, without wireless and virtual ones."""
    cards = []
    for folder in sorted((root / "sys/class/net").glob("*")):
        if not (folder / "device").exists() or (folder / "wireless").exists():
            continue
        if read_text(folder, "type") != "1":  # Ethernet; a CAN interface is 280
            continue
        speed = read_text(folder, "speed")
        missed = read_text(folder, "statistics/rx_missed_errors")
        cards.append(
            NetworkCard(
                name=folder.name,
                is_up=read_text(folder, "operstate") == "up",
                speed_mbit=int(speed) if speed.isdigit() else None,
                missed=int(missed) if missed.isdigit() else 0,
                interrupts=_interrupts(root, folder),
            )
        )
    return tuple(cards)


def interrupt_cores(number: int, root: Path = ROOT) -> frozenset[int]:
    """Return the cores that may serve an interrupt; empty where it is not known."""
    try:
        return core_list(read_text(root, f"proc/irq/{number}/smp_affinity_list"))
    except ValueError:
        return frozenset()


def runs(program: str, root: Path = ROOT) -> bool:
    """Return whether a process of that name runs, as far as /proc shows them."""
    return any(read_text(path.parent, "comm") == program for path in (root / "proc").glob("[0-9]*/comm"))


def _interrupts(root: Path, folder: Path) -> tuple[int, ...]:
    """Return the interrupts of a card: those of its device, else those that carry the name of its interface."""
    numbers = [int(path.name) for path in (folder / "device/msi_irqs").glob("*") if path.name.isdigit()]
    if not numbers:
        for line in read_text(root, "proc/interrupts").splitlines():
            number, _, rest = line.strip().partition(":")
            if number.isdigit() and any(
                word == folder.name or word.startswith(f"{folder.name}-") for word in rest.split()
            ):
                numbers.append(int(number))
    return tuple(sorted(numbers))
