# SPDX-License-Identifier: Apache-2.0
"""`wam info`: list robots, policies and presets, or show one of them, or a recording."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wam.core.errors import BundleError, ConfigError, WamError
from wam.policies.kind import RANDOM
from wam.policies.registry import policy_kind, registry
from wam.policies.shipped import bundle_directory, shipped_bundles
from wam.robots.description import summed_up
from wam.runtime.policy import FAKE_POLICY

MIN_TEXT = 20
"""Narrowest column of text [characters]."""


def info(
    recording: Annotated[
        Path | None,
        typer.Argument(
            metavar="BAG|DATASET",
            help="Show a recording or a data set: a rosbag2 folder, an .mcap, .db3 or ROS 1 .bag file, or the folder "
            "of a LeRobot data set.",
            show_default=False,
        ),
    ] = None,
    robot: Annotated[
        str, typer.Option(help="Show a robot: a name in config/robots or a YAML file.", show_default=False)
    ] = "",
    preset: Annotated[
        str, typer.Option(help="Show a network's sizes: KIND/NAME, e.g. aha_wam/paper.", show_default=False)
    ] = "",
    policy: Annotated[
        str,
        typer.Option(
            help="Show a policy bundle: its directory, or the name of one that ships.", show_default=False
        ),
    ] = "",
    fk: Annotated[
        str,
        typer.Option(
            "--fk", help="With --robot: pose of this link at the joint positions --q.", show_default=False
        ),
    ] = "",
    q: Annotated[
        str,
        typer.Option(
            "--q",
            help="Joint positions [rad or m], base to tip, separated by spaces or commas.",
            show_default=False,
        ),
    ] = "",
    base: Annotated[
        str, typer.Option(help="With --fk: reference link of the pose.", show_default=False)
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """List robots, policies and presets, or show one of them, or a recording or data set. Changes nothing.

    Exit codes: 0 success, 1 not found or its file is invalid.

    Example: wam info my_bag, wam info --robot piper, wam info --robot piper --fk left_link6 --q "0 1.57 -1.57 0 0 0"
    """
    given = (("BAG|DATASET", recording), ("--robot", robot), ("--preset", preset), ("--policy", policy))
    chosen = [name for name, value in given if value]
    if len(chosen) > 1:
        raise ConfigError("wam info", value=" ".join(chosen), allowed="one of them", where="the command line")
    if (fk or q or base) and not (robot and fk and q):
        raise ConfigError(
            "forward kinematics", allowed="--robot NAME --fk LINK --q POSITIONS", where="the command line"
        )
    if recording is not None:
        _tell_recording(recording, as_json=as_json)
        return
    if fk:
        shown = pose_values(robot, fk, q, base=base or None)
    elif robot:
        shown = robot_values(robot)
    elif preset:
        shown = preset_values(preset)
    elif policy:
        shown = bundle_values(policy)
    else:
        shown = catalogue()
    if as_json:
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif fk:
        _show_pose(shown)
    elif robot:
        _show_robot(shown)
    elif policy:
        _show_bundle(shown)
    elif chosen:
        _show(shown)
    else:
        _show_catalogue(shown)


def _tell_recording(path: Path, *, as_json: bool) -> None:
    from wam.cli.recording_info import show_survey
    from wam.data.survey import survey, survey_as_json

    if not path.exists() and path.name in (
        *(robot["name"] for robot in catalogue()["robots"]),
        *shipped_bundles(),
    ):
        raise ConfigError(
            f"no recording {path}", allowed=f"--robot {path} or --policy {path}", where="the command line"
        )
    found = survey(path)
    if as_json:
        typer.echo(json.dumps(survey_as_json(found), indent=2, ensure_ascii=False))
    else:
        show_survey(found)


def catalogue() -> dict[str, Any]:
    """Return all robots, built-in policies and presets; a faulty robot file is listed with its error.

    Keys: robots [{name, title, joints, cameras} or {name, error}], policies [name], presets [name],
    trained [name of a bundle that ships],
    policy_faults {name: why that installed policy cannot be used}.
    """
    from wam.robots.paths import config_dir

    robots = []
    for path in sorted((config_dir() / "robots").glob("*.yaml")):
        try:
            robots.append(_robot_line(path.stem))
        except WamError as error:
            robots.append({"name": path.stem, "error": str(error)})
    table = registry()
    return {
        "robots": robots,
        "trained": list(shipped_bundles()),
        "policies": [FAKE_POLICY, *(f"{name}/{RANDOM}" for name in table.kinds)],
        "presets": _preset_names(),
        "policy_faults": dict(table.faults),
    }


def _robot_line(name: str) -> dict[str, Any]:
    from wam.devices.loader import load_robot

    robot = load_robot(name, moves=False)
    return {
        "name": robot.name,
        "title": robot.title,
        "joints": len(robot.joint_names),
        "cameras": [camera.name for camera in robot.cameras],
    }


def robot_values(name: str) -> dict[str, Any]:
    """Return a robot as plain values; see `wam.devices.describe.describe_robot`.

    Raises:
        ConfigError: there is no such robot, or its files are faulty.
    """
    from wam.devices.describe import describe_robot
    from wam.devices.loader import load_robot

    return describe_robot(load_robot(name, moves=False))


def pose_values(robot: str, tip: str, q: str, *, base: str | None = None) -> dict[str, Any]:
    """Return the pose of link `tip` of `robot`.

    Keys: robot, tip, base, q [rad or m], pose (4 rows of 4; lengths in m).

    Args:
        robot: name or file.
        tip: link.
        q: positions of the joints between base and tip, or of all joints, separated by spaces or commas.
        base: link in which the pose is given; default the base link of the tip's joint group.

    Raises:
        ConfigError: there is no such robot, or it has no model, or `q` holds a word that is not a number.
        InputError: there is no such link, or `q` has another width.
    """
    from wam.devices.loader import load_robot
    from wam.robots.kinematics import RobotModel, forward_kinematics

    try:
        positions = [float(word) for word in q.replace(",", " ").split()]
    except ValueError:
        raise ConfigError(
            "joint positions", value=q, allowed='numbers, e.g. "0 1.57 -1.57 0 0 0"', where="--q"
        ) from None
    description = load_robot(robot, moves=False)
    pose = forward_kinematics(description, tip, positions, base=base)
    return {
        "robot": description.name,
        "tip": tip,
        "base": base or RobotModel(description).default_base(tip),
        "q": positions,
        "pose": [[float(value) for value in row] for row in pose],
    }


def preset_values(name: str) -> dict[str, Any]:
    """Return sizes and parameter counts of a preset; nothing is allocated.

    Raises:
        ConfigError: unknown preset.
    """
    names = _preset_names()
    if name not in names:
        raise ConfigError("unknown preset", value=name, known=names, where="--preset")
    kind_name, _, preset = name.partition("/")
    kind = policy_kind(kind_name)
    config = kind.load_presets()[preset]()
    return {"preset": name, "parameters": kind.count_parameters(config), "config": config.to_dict()}


def bundle_values(policy: str) -> dict[str, Any]:
    """Return the metadata of a policy bundle, by its directory or name; its tensors are not loaded.

    `columns` has, for each column of state and action, its unit (see `ColumnUnit`) and the range of the data as
    positions of the joint (low, high [rad, m or 1]; None where the statistics have none).

    Raises:
        BundleError: the directory is not a bundle, or is damaged.
    """
    from wam.models.bundle import open_bundle
    from wam.models.column_units import ColumnUnit

    directory = bundle_directory(policy)
    if directory is None:
        raise BundleError(
            "policy bundle not found",
            value=policy,
            allowed=", ".join(("a directory with policy.yaml", *shipped_bundles())),
            where="--policy",
            known=shipped_bundles(),
            by_part=True,
        )
    bundle = open_bundle(directory)
    contract = bundle.contract
    columns = []
    for vector, joints, stats in (
        ("state", contract.state_joints, bundle.stats.state),
        ("action", contract.action_joints, bundle.stats.action),
    ):
        units = stats.units or (ColumnUnit(),) * len(joints)
        low, high = (
            [None if math.isnan(value) else value for value in ends.tolist()] for ends in stats.range_si()
        )
        columns += [
            {"vector": vector, "joint": joint, **unit.to_dict(), "low": low[i], "high": high[i]}
            for i, (joint, unit) in enumerate(zip(joints, units, strict=True))
        ]
    return {
        "policy": str(directory),
        "kind": contract.kind,
        "contract_hash": contract.contract_hash,
        "cameras": [{"name": c.name, "height": c.height, "width": c.width} for c in contract.cameras],
        "state_joints": list(contract.state_joints),
        "action_joints": list(contract.action_joints),
        "instruction": bundle.manifest.instruction,
        "control_period_s": contract.control_period_ns / 1e9,
        "chunk_rows": bundle.manifest.chunk_rows,
        "relative_actions": contract.relative_actions,
        "execute_rows": contract.execute_rows,
        "environment": list(contract.environment),
        "task": contract.task,
        "trained_on": asdict(contract.trained_on),
        "columns": columns,
    }


def _preset_names() -> list[str]:
    return [f"{kind.name}/{preset}" for kind in registry().kinds.values() for preset in kind.load_presets()]


# -- tables ----------------------------------------------------------------------------------------------------------


def _show_catalogue(shown: dict[str, Any]) -> None:
    console = Console()
    table = Table("robot", "what it is", "joints", "cameras", box=None, title="Robots", title_justify="left")
    for robot in shown["robots"]:
        if "error" in robot:
            table.add_row(robot["name"], f"[red]{escape(robot['error'])}[/red]", "", "")
        else:
            table.add_row(
                robot["name"], escape(robot["title"]), str(robot["joints"]), ", ".join(robot["cameras"])
            )
    console.print(table)
    if shown["trained"]:
        console.print(f"\n[italic]Trained policies[/italic]\n {', '.join(shown['trained'])}")
    console.print(f"\n[italic]Built-in policies[/italic] (random weights)\n {', '.join(shown['policies'])}")
    for name, fault in shown["policy_faults"].items():
        console.print(f" {escape(name)}: [red]{escape(fault)}[/red]", soft_wrap=True)
    console.print(f"\n[italic]Presets[/italic]\n {', '.join(shown['presets'])}")
    console.print("\nMore: wam info --robot NAME, wam info --preset KIND/NAME, wam info --policy NAME")


def _show_robot(shown: dict[str, Any]) -> None:
    console = Console()

    def line(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    line(f"[bold]{escape(shown['title'])}[/bold]\n{escape(shown['source'])}")
    for group in shown["groups"]:
        _show_group(console, line, group)
    for camera in shown["cameras"]:
        make = f" ({camera['preset']})" if camera["preset"] else ""
        line(f"\ncamera [bold]{camera['name']}[/bold]{make}: frame {camera['frame_id']}")
        line(
            f"  {camera['topic']} ({camera['transport']}, {camera['encoding']}), {camera['width']}x{camera['height']} "
            f"at {camera['rate_hz']:g} Hz, at most {camera['max_age_s']:g} s old, reliability {camera['reliability']}"
        )
    for zone in shown["zones"]:
        slow = f" at most {zone['speed']:g} m/s" if zone["speed"] else ""
        points = f" ({', '.join(zone['points'])})" if zone["points"] else ""
        line(
            f"\nzone [bold]{zone['name']}[/bold]: {zone['kind']}{slow}, {zone['target']}{points}, "
            f"{escape(_text(zone['lower']))} to {escape(_text(zone['upper']))} m"
        )
    if shown["safety"] is not None:
        line("\nsafety: " + ", ".join(f"{name} {_text(value)}" for name, value in shown["safety"].items()))
    if shown["replay_only"]:
        line(f"\nfor replay only; not stated: {summed_up(tuple(shown['unstated'])) or 'nothing'}")
    if shown["model"]:
        given = " ".join(f"{name}:={value}" for name, value in shown["model"]["args"].items())
        line(f"\nmodel: {escape(shown['model']['urdf'])} {given}".rstrip())
        for frame in shown["frames"]:
            line(f"  {frame['link']} in {frame['parent']}, by {frame['joint']} ({frame['kind']})")


def _show_group(console: Console, line: Callable[[str], None], group: dict[str, Any]) -> None:
    state, command, joints = group["state"], group["command"], group["joints"]
    links = f": {group['base_link']} to {group['tip_link']}" if group["tip_link"] else ""
    line(f"\ngroup [bold]{group['name']}[/bold], driver {group['driver']}{links}")
    line(f"  device   {escape(group['device'])}")
    line(f"  state    {state['topic']} at {state['rate_hz']:g} Hz, at most {state['max_age_s']:g} s old")
    if command["topic"]:
        lead = f", {command['lead_s']:g} s early" if command["lead_s"] else ""
        line(f"  command  {command['topic']} ({command['kind']}) at {command['rate_hz']:g} Hz{lead}")
        for distribution, topic in command["topic_by_distribution"].items():
            line(f"           {topic} on {distribution}")
    payload = group["payload"]
    if payload is not None:
        center = ", ".join(f"{value:g}" for value in payload["center_of_mass"])
        line(
            f"  payload  {payload['mass']:g} kg, center of mass ({center}) m in {group['tip_link'] or 'the tip'}"
        )
    table = Table(box=None, pad_edge=True)
    for number, heading in enumerate(("joint", "unit", "lower", "upper", "vel", "acc", "jerk", "home")):
        table.add_column(heading, no_wrap=True, justify="left" if number < 2 else "right")
    for joint in joints:
        numbers = (
            _text(joint[key]) for key in ("lower", "upper", "velocity", "acceleration", "jerk", "home")
        )
        table.add_row(joint["name"], joint["unit"], *numbers)
    console.print(table)
    if any(joint["name"] != joint["driver_name"] for joint in joints):
        line(f"  names in the driver: {', '.join(joint['driver_name'] for joint in joints)}")
    for text, names in _conversions(joints).items():
        every = "all" if len(names) == len(joints) else ", ".join(names)
        line(f"  {every}: {text}")
    for joint in joints:
        for key in ("effort", "external_torque"):
            if joint[key] is not None:
                line(f"  {joint['name']}: limits of {key}: {_text(joint[key])}")


def _conversions(joints: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return what is converted between driver and suite -> names of the joints it holds for."""
    found: dict[str, list[str]] = {}
    for joint in joints:
        factors, raw = joint["conversion"], joint["raw"]
        if factors != {"state": 1.0, "command": 1.0}:
            text = f"measured = reported x {factors['state']:.8g}; sent = wanted x {factors['command']:.8g}"
            found.setdefault(text, []).append(joint["name"])
        if raw is not None:
            text = f"the device counts {raw['at_lower']:g} at lower .. {raw['at_upper']:g} at upper"
            found.setdefault(text, []).append(joint["name"])
    return found


def _show_pose(shown: dict[str, Any]) -> None:
    console = Console()
    console.print(f"{shown['tip']} in {shown['base']} of {shown['robot']}, lengths in m")
    for row in shown["pose"]:
        # Avoids showing -0 after rounding.
        console.print("  ".join(f"{value if abs(value) >= 5e-7 else 0.0:10.6f}" for value in row))


def _show(shown: dict[str, Any]) -> None:
    rows: list[tuple[str, str]] = []
    for name, value in shown.items():
        if name == "parameters":
            rows.append((name, ", ".join(f"{part} {count:,}" for part, count in value.items())))
        elif isinstance(value, dict):
            rows += [(f"{name}: {key}", _text(inner)) for key, inner in value.items()]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            rows += [(name, _text(entry)) for entry in value]
        else:
            rows.append((name, _text(value)))
    console = Console()
    indent = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        # A hash or a path that is broken in two cannot be searched for.
        lines = textwrap.wrap(
            text, max(console.width - indent, MIN_TEXT), break_long_words=False, break_on_hyphens=False
        )
        for number, line in enumerate(lines or [""]):
            console.print(
                f"{'' if number else name:<{indent}}{escape(line)}".rstrip(), soft_wrap=True, highlight=False
            )


def _show_bundle(shown: dict[str, Any]) -> None:
    columns = shown.pop("columns")
    # A converted bundle states neither its task nor its data: rows without a value would say nothing.
    trained_on = {name: value for name, value in shown.pop("trained_on").items() if value}
    stated = {**shown, **({"trained_on": trained_on} if trained_on else {})}
    _show({name: value for name, value in stated.items() if value not in ("", [])})
    headings = ("vector", "joint", "unit", "scale", "offset", "sign", "low", "high")
    table = Table(
        box=None, title="\nColumns: position = unit (sign scale number + offset)", title_justify="left"
    )
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=True, justify="left" if number < 3 else "right")
    for column in columns:
        table.add_row(*(escape(_text(column[heading])) for heading in headings))
    console = Console()
    console.print(table)
    console.print(
        "low, high: range of the data as positions of the joint, in its own unit: rad, m, or 1 for a share of 0..1 "
        "(wam info --robot NAME). si: that unit.",
        soft_wrap=True,
    )


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_text(inner) for inner in value) + "]"
    return str(value)
