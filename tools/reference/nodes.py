# SPDX-License-Identifier: Apache-2.0
"""docs/reference/nodes/*.md: a page for each node, from its parameter class and from what it has when it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_type_hints

from wam.devices.loader import load_robot
from wam.devices.optional import STANDARD_PACKAGES, VENDOR_TYPES
from wam.devices.registry import estop_feeds, kind_of, make_watch
from wam.robots.description import RobotDescription
from wam_sim_node.arm import offer_of

from .live import ROBOTS, Endpoint, NodeFacts
from .pages import REFERENCE, StaleEntry, by_hand, foot, head, sentence, table

FILE = "nodes.yaml"
INDEX = REFERENCE / "nodes.md"
FOLDER = REFERENCE / "nodes"
VERBS = {
    "publishes": "Topics that it publishes",
    "subscribes": "Topics that it reads",
    "serves": "Services",
    "calls": "Services that it calls",
    "acts": "ROS actions",
    "asks": "ROS actions that it calls",
}
SELDOM = {"refused *", "load"}
"""Keys that a node that was just configured does not show."""
TYPE_NAMES = {bool: "bool", int: "int", float: "float", str: "string"}


def parameter_classes() -> Mapping[str, type[Any]]:
    """Return name of a node -> the dataclass of its parameters."""
    from wam_bringup.gate import GateParameters
    from wam_bringup.task_node import TaskParameters
    from wam_bringup.view import ViewParameters
    from wam_driver_node.estop_button import ButtonParameters
    from wam_driver_node.parameters import DriverParameters
    from wam_executor_node.parameters import ExecutorParameters
    from wam_planner_node.parameters import PlannerParameters
    from wam_safety_node.parameters import SafetyParameters
    from wam_sim_node.parameters import SimParameters

    return {
        "wam_planner": PlannerParameters,
        "wam_executor": ExecutorParameters,
        "wam_safety": SafetyParameters,
        "wam_driver": DriverParameters,
        "wam_sim": SimParameters,
        "wam_task": TaskParameters,
        "wam_view": ViewParameters,
        "wam_gate": GateParameters,
        "wam_estop_button": ButtonParameters,
    }


def pages(facts: Mapping[str, NodeFacts]) -> dict[Path, str]:
    """Return path -> text of every page.

    Args:
        facts: of the nodes that were run.

    Raises:
        StaleEntry: a topic or key has no entry, or an entry fits none.
    """
    written = by_hand(FILE)
    used: set[str] = set()
    classes = parameter_classes()
    if set(written["nodes"]) != set(classes) or not set(facts) <= set(classes):
        raise StaleEntry(f"tools/reference/{FILE}: nodes must be {', '.join(classes)}")
    made = {
        FOLDER / f"{name}.md": _page(name, about, classes[name], facts.get(name), written, used)
        for name, about in written["nodes"].items()
    }
    unused = sorted({*written["topics"], *written["keys"]} - used - SELDOM)
    if unused:
        raise StaleEntry(f"tools/reference/{FILE} has entries for what no node has: {', '.join(unused)}")
    made[INDEX] = _index(written["nodes"])
    return made


def _index(nodes: Mapping[str, Any]) -> str:
    rows = [
        (f"[`{name}`](nodes/{name}.md)", sentence(about["title"]), f"`{about['executable']}`")
        for name, about in nodes.items()
    ]
    return (
        head("Nodes")
        + "\nEvery node but `wam_gate` and `wam_estop_button` is a lifecycle node: `configure` loads and checks "
        "everything, `activate` begins to act. Names are relative to the namespace in which the nodes are started.\n\n"
        + table(("node", "what it is", "executable"), rows)
        + "\n[Messages, services and actions](messages.md), [what helps where something is wrong](troubleshooting.md), "
        "[how the nodes work together](../explanation/architecture.md).\n" + foot("the nodes themselves")
    )


def _page(
    name: str,
    about: Mapping[str, Any],
    kind: type[Any],
    seen: NodeFacts | None,
    written: Mapping[str, Any],
    used: set[str],
) -> str:
    lifecycle = name not in ("wam_gate", "wam_estop_button")
    parts = [
        head(f"{name}: {about['title']}"),
        f"\n{sentence(about['about'])}\n\n    ros2 run wam_deploy {about['executable']} --ros-args -p NAME:=VALUE\n",
    ]
    if lifecycle:
        parts.append(
            "\nA lifecycle node; beside what is listed it has the topics and services of every lifecycle node. Robots "
            "are named where not all have it.\n"
        )
    sometimes = [_Sometimes(*one) for one in about.get("sometimes", ())]
    endpoints = {} if seen is None else seen.endpoints
    for verb, title in VERBS.items():
        rows = list(_rows(verb, endpoints, sometimes, written["topics"], used))
        if rows:
            qos = verb in ("publishes", "subscribes")
            names = ("name", "type", *(("QoS",) if qos else ()), "meaning")
            parts.append(
                f"\n## {title}\n\n" + table(names, [row if qos else (*row[:2], row[3]) for row in rows])
            )
    vendor = sorted(_vendor_rows(name))
    if vendor:
        parts.append(
            "\n## Where the vendor's message package is installed\n\n"
            + table(("name", "type", "robot"), vendor)
        )
    parts.append("\n## Parameters\n\n" + _parameters(kind, reads_once=name == "wam_gate"))
    if seen is not None and seen.keys:
        parts.append(
            f"\n## Diagnostics\n\nStatus `{seen.task}` on `/diagnostics`.\n\n" + _keys(seen, written, used)
        )
    if about.get("rungs"):
        parts.append(
            "\n## Rungs\n\nNOMINAL, LATE, SLOW, HOLD, STOP "
            "([the ladder](../../explanation/execution-and-safety.md#the-ladder)); "
            "[every cause, with what helps](../troubleshooting.md#causes-of-the-degrade-ladder).\n"
        )
    parts.append(foot("the node's parameter class and what it has when it runs"))
    return "".join(parts)


@dataclasses.dataclass(frozen=True, slots=True)
class _Sometimes:
    """An endpoint that is there under a condition only."""

    verb: str
    name: str
    type: str
    meaning: str


def _rows(
    verb: str,
    endpoints: Mapping[Endpoint, Sequence[str]],
    sometimes: Sequence[_Sometimes],
    meanings: Mapping[str, str],
    used: set[str],
) -> Iterator[tuple[str, str, str, str]]:
    merged: dict[tuple[str, str, str, str], list[str]] = {}
    for one, robots in sorted(endpoints.items()):
        if one.verb != verb:
            continue
        pattern = next((each for each in meanings if fnmatchcase(one.name, each)), None)
        if pattern is None:
            raise StaleEntry(f"tools/reference/{FILE}, topics: no entry for {one.name} ({one.type})")
        used.add(pattern)
        shown = pattern if "_lease_" in pattern else one.name
        found = merged.setdefault((shown, one.type, one.qos, meanings[pattern]), [])
        found += [robot for robot in robots if robot not in found]
    for (name, kind, qos, meaning), robots in merged.items():
        yield f"`{name}`", f"`{kind}`" if kind else "", qos, _with(meaning, robots)
    for other in sometimes:
        if other.verb == verb:
            yield f"`{other.name}`", f"`{other.type}`" if other.type else "", "", other.meaning


def _with(meaning: str, robots: Sequence[str]) -> str:
    return meaning if len(robots) == len(ROBOTS) else f"{meaning} ({', '.join(robots)})"


def _vendor_rows(name: str) -> set[tuple[str, str, str]]:
    """Return topics of vendors' drivers that the node reads where their types are installed."""
    rows: set[tuple[str, str, str]] = set()
    for robot in ROBOTS:
        described = load_robot(robot)
        feeds: list[Any] = []
        if name == "wam_safety":
            feeds += estop_feeds(described).values()
            feeds += [feed for group in described.groups for feed in make_watch(group).deaf_feeds]
        elif name == "wam_driver":
            watches = [(kind_of(group).watch, group) for group in described.groups]
            feeds += [feed for watch, group in watches if watch is not None for feed in watch(group).feeds]
        for feed in feeds:
            package, _, kind = VENDOR_TYPES[feed.type]
            if package not in STANDARD_PACKAGES:
                rows.add((f"`{feed.topic}`", f"`{package}/{kind}`", robot))
        if name == "wam_sim":
            rows |= {(f"`{one}`", f"`{kind}`", robot) for one, kind in _simulated(described)}
        if name in ("wam_safety", "wam_sim"):
            package, _, kind = VENDOR_TYPES["controller_state"]
            rows |= {
                (f"`{group.command_topic.rpartition('/')[0]}/controller_state`", f"`{package}/{kind}`", robot)
                for group in described.groups
                if group.command_topic.endswith("/joint_trajectory")
            }
    return rows


def _simulated(robot: RobotDescription) -> Iterator[tuple[str, str]]:
    """Yield name and type of what the simulated drivers offer under a vendor's type."""
    for group in robot.groups:
        offered = offer_of(group)
        goals = {} if offered.goals is None else offered.goals.types
        folder = "" if offered.goals is None else offered.goals.folder
        found = [(one.topic, one.type) for one in offered.statuses]
        found += [(one.name, one.type) for one in offered.services]
        found += [(f"{folder}/{name}" if folder else name, key) for name, key in goals.items()]
        for name, key in found:
            package, _, kind = VENDOR_TYPES[key]
            if package not in STANDARD_PACKAGES:
                yield name, f"{package}/{kind}"


def _parameters(kind: type[Any], *, reads_once: bool) -> str:
    hints = get_type_hints(kind)
    rows = []
    for one in dataclasses.fields(kind):
        meta, required = one.metadata, one.default is dataclasses.MISSING
        rows.append(
            (
                f"`{one.name}`",
                TYPE_NAMES.get(hints[one.name], "string[]"),
                "required" if required else _value(one.default),
                _allowed(meta),
                sentence(str(meta["description"])),
            )
        )
    return (
        table(("name", "type", "default", "allowed", "meaning"), rows)
        + (
            "\nRead at the start."
            if reads_once
            else "\nRead at configure; `ros2 param set` is refused afterwards."
        )
        + " `ros2 param describe` shows the same.\n"
    )


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return f"`[{', '.join(str(one) for one in value)}]`"
    if value == "":
        return '`""`'
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _allowed(meta: Mapping[str, Any]) -> str:
    unit = f" {meta['unit']}" if meta["unit"] not in ("", "1") else ""
    if meta["choices"]:
        return ", ".join(f"`{one}`" if one else '`""`' for one in meta["choices"])
    lower, upper = meta["lower"], meta["upper"]
    if lower is None and upper is None:
        return meta["unit"] or ""
    low = "" if lower is None else f"{lower:g}" if isinstance(lower, float) else str(lower)
    high = "" if upper is None else f"{upper:g}" if isinstance(upper, float) else str(upper)
    return f"{low} .. {high}{unit}"


def _keys(seen: NodeFacts, written: Mapping[str, Any], used: set[str]) -> str:
    rows: dict[str, tuple[str, list[str]]] = {}
    for key, robots in seen.keys.items():
        pattern = next((each for each in written["keys"] if fnmatchcase(key, each)), None)
        if pattern is None:
            raise StaleEntry(f"tools/reference/{FILE}, keys: no entry for {key}")
        used.add(pattern)
        shown, meaning = written["keys"][pattern]
        found = rows.setdefault(shown, (meaning, []))[1]
        found += [robot for robot in robots if robot not in found]
    return table(("key", "meaning"), _key_rows(rows))


def _key_rows(rows: Mapping[str, tuple[str, list[str]]]) -> Iterable[tuple[str, str]]:
    for shown, (meaning, robots) in rows.items():
        yield f"`{shown}`", _with(meaning, robots)
