# SPDX-License-Identifier: Apache-2.0
"""Options that every command which reads a recording has: names of topics, and clocks."""

from __future__ import annotations

from typing import Annotated

import typer

from wam.core.clock import seconds_to_ns
from wam.core.errors import ConfigError
from wam.data.bag.clocks import OPTION, ClockRequest

STAMPS, RECEIVE = "stamps", "receive"
AUTO = "auto"
MAX_OFFSET = 1e10
"""Largest correction of a clock that an option takes [s]: more than the time since 1970."""

MAX_PPM = 1e5
"""Largest correction of a clock's drift that an option takes [ppm]: a tenth of its speed."""

Remap = Annotated[
    list[str] | None,
    typer.Option(
        help="ROBOT_TOPIC:=RECORDED_TOPIC, for a topic recorded under another name.", show_default=False
    ),
]
ActionTopics = Annotated[
    list[str] | None,
    typer.Option(
        help="Topic of the recorded action, as TOPIC or, for messages without names, TOPIC=JOINT,JOINT; may be "
        "repeated. Default: /action, or the robot's command topics.",
        show_default=False,
    ),
]
TimeBase = Annotated[
    str, typer.Option(help="Time base: 'stamps' (message headers) or 'receive' (the recorder's).")
]
ClockOffsets = Annotated[
    list[str] | None,
    typer.Option(
        help="TOPIC=SECONDS to add to the stamps of a topic that another clock has stamped; SECONDS,PPM for one that "
        "also drifts; auto fits both to the times of receipt. May be repeated.",
        show_default=False,
    ),
]


def use_stamps(time: str) -> bool:
    """Return whether the option `--time` asks for header stamps.

    Raises:
        ConfigError: it is neither of its values.
    """
    if time not in (STAMPS, RECEIVE):
        raise ConfigError("option --time", value=time, allowed=f"{STAMPS} or {RECEIVE}", where="--time")
    return time == STAMPS


def parse_offsets(values: list[str]) -> dict[str, ClockRequest]:
    """Return the options `--clock-offset` as topic -> how to correct its stamps.

    Raises:
        ConfigError: one has another form.
    """
    form = f"TOPIC=SECONDS, TOPIC=SECONDS,PPM or TOPIC={AUTO}"
    requests = {}
    for topic, text in parse_pairs(values, separator="=", option=OPTION, form=form).items():
        if text == AUTO:
            requests[topic] = ClockRequest(None)
            continue
        numbers = [_number(part) for part in text.split(",")]
        if len(numbers) == 1:
            numbers.append(0.0)
        if len(numbers) != 2 or not abs(numbers[0]) <= MAX_OFFSET or not abs(numbers[1]) <= MAX_PPM:
            raise ConfigError(
                f"option {OPTION}",
                value=f"{topic}={text}",
                allowed=f"{form}; seconds within {MAX_OFFSET:g}, ppm within {MAX_PPM:g}",
                where=OPTION,
            )
        requests[topic] = ClockRequest(seconds_to_ns(numbers[0]), numbers[1])
    return requests


def _number(text: str) -> float:
    """Return a number, NaN for a text that is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def parse_remap(values: list[str] | None) -> dict[str, str]:
    """Return the options `--remap` as topic of the robot file -> topic of the recording."""
    return parse_pairs(values or [], separator=":=", option="--remap", form="ROBOT_TOPIC:=RECORDED_TOPIC")


def parse_pairs(values: list[str], *, separator: str, option: str, form: str) -> dict[str, str]:
    """Return options of the form LEFT{separator}RIGHT as a mapping.

    Raises:
        ConfigError: an option has another form.
    """
    pairs = {}
    for value in values:
        left, found, right = value.partition(separator)
        if not found or not left or not right:
            raise ConfigError(f"option {option}", value=value, allowed=form, where=option)
        pairs[left] = right
    return pairs
