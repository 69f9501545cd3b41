# SPDX-License-Identifier: Apache-2.0
"""Robot files as texts: a good one, one for replay only, and what is wrong with a changed one."""

from __future__ import annotations

GOOD = """\
title: One arm
groups:
  - name: arm
    prefix: my_
    state: {topic: arm/joint_states, rate: 200, max_age: {value: 50, unit: ms}}
    command: {kind: joint_state_stream, topic: arm/command, rate: 100}
    joints:
      - driver_name: joint1
        kind: revolute
        lower: {value: -90, unit: deg}
        upper: 1.5
        velocity: {value: 180, unit: deg/s}
        acceleration: 2
        jerk: 50
        home: 0.25
      - {driver_name: gripper, kind: prismatic, lower: 0, upper: {value: 70, unit: mm}, velocity: 0.1, \
         acceleration: 1, jerk: 1e1}
cameras:
  - {name: head, topic: head/image_raw, transport: raw, encoding: rgb8, height: 240, width: 320, \
     rate: 15, max_age: 0.2, frame_id: head_optical}
safety: {chunk_timeout: 0.25, max_jump: 0.2, tracking_error: 0.3, lead: 0.04, blend: 0.1}
"""

FAULTS = [
    ("title: One arm", "titel: One arm", 1, "titel", "is an unknown key"),
    ("title: One arm\n", "", 1, "top level", "lacks title"),
    ("rate: 200", "rate: fast", 5, "groups[0].state.rate", "got 'fast'"),
    ("rate: 200", "rate: -1", 5, "groups[0].state.rate", "allowed: 0.1 .. 10000 Hz"),
    ("rate: 200", "rate: .nan", 5, "groups[0].state.rate", "is not a finite number"),
    ("rate: 200", "rate: 1:30", 5, "groups[0].state.rate", "is not a finite number"),
    ("rate: 200", "rate: [1]", 5, "groups[0].state.rate", "got 'a list'"),
    ("unit: ms", "unit: deg", 5, "groups[0].state.max_age.unit", "allowed: s, ms, us"),
    (
        "value: -90, unit: deg",
        "value: -90, unit: mm",
        10,
        "groups[0].joints[0].lower.unit",
        "allowed: rad, deg, mrad",
    ),
    ("upper: 1.5", "upper: -3.0", 10, "groups[0].joints[0].lower", "is not below upper"),
    ("velocity: 0.1", "velocity: 0", 16, "groups[0].joints[1].velocity", "is out of range"),
    ("home: 0.25", "home: 2.0", 15, "groups[0].joints[0].home", "is out of range"),
    ("kind: revolute", "kind: rotary", 9, "groups[0].joints[0].kind", "allowed: revolute, prismatic, ratio"),
    ("jerk: 50", "jrek: 50", 14, "groups[0].joints[0].jrek", "is an unknown key"),
    ("        jerk: 50\n", "", 8, "groups[0].joints[0]", "lacks jerk"),
    (
        "driver_name: gripper",
        "driver_name: joint1",
        16,
        "groups[0].joints[1].driver_name",
        "(first used in line 8)",
    ),
    ("topic: arm/command, ", "", 6, "groups[0].command", "lacks topic"),
    ("kind: joint_state_stream", "kind: none", 6, "groups[0].command.topic", "is an unknown key"),
    ("topic: arm/command", "topic: /arm/command", 6, "groups[0].command.topic", "without leading /"),
    ("encoding: rgb8", "encoding: 16UC1", 18, "cameras[0].encoding", "rgb8, bgr8"),
    ("height: 240", "height: 240.5", 18, "cameras[0].height", "a whole number"),
    ("height: 240", "height: 0", 18, "cameras[0].height", "a whole number"),
    ("lead: 0.04", "lead: 0.04, lead: 0.05", 19, "safety.lead", "is written twice"),
    ("prefix: my_", "prefix: 3", 4, "groups[0].prefix", "is not a text"),
    ("title: One arm", "title: One arm\nmodel: {urdf: nowhere.urdf}", 2, "model.urdf", "does not exist"),
    ("title: One arm", "title: ''", 1, "title", "is not a text"),
    ("home: 0.25", "effort: 12", 15, "groups[0].joints[0].effort", "is not a mapping"),
    ("home: 0.25", "effort: {}", 15, "groups[0].joints[0].effort", "allowed: hold, stop or both"),
    ("home: 0.25", "effort: {stop: 0}", 15, "groups[0].joints[0].effort.stop", "is out of range"),
    ("home: 0.25", "effort: {stop: .inf}", 15, "groups[0].joints[0].effort.stop", "is not a finite number"),
    (
        "home: 0.25",
        "effort: {stop: 9, hold: 9}",
        15,
        "groups[0].joints[0].effort.hold",
        "allowed: hold < stop",
    ),
    ("home: 0.25", "effort: {halt: 9}", 15, "groups[0].joints[0].effort.halt", "allowed: hold, stop"),
    (
        "home: 0.25",
        "effort: {stop: {value: 3, unit: kg}}",
        15,
        "groups[0].joints[0].effort.stop.unit",
        "allowed: N m, N, A, mA",
    ),
    (
        "home: 0.25",
        "effort: {hold: 3, stop: {value: 5, unit: A}}",
        15,
        "groups[0].joints[0].effort.stop",
        "has another unit than hold",
    ),
    (
        "home: 0.25",
        "external_torque: {stop: 9}",
        15,
        "groups[0].joints[0].external_torque",
        "cannot be watched",
    ),
    ("prefix: my_", "payload: {mass: 1}", 4, "groups[0].payload", "lacks center_of_mass"),
    (
        "prefix: my_",
        "payload: {mass: -1, center_of_mass: [0, 0, 0]}",
        4,
        "groups[0].payload.mass",
        "is out of range",
    ),
    (
        "prefix: my_",
        "payload: {mass: 800, center_of_mass: [0, 0, 0]}",
        4,
        "groups[0].payload.mass",
        "allowed: 0 .. 100 kg",
    ),
    (
        "prefix: my_",
        "payload: {mass: 1, center_of_mass: [0, 0]}",
        4,
        "groups[0].payload.center_of_mass",
        "2 entries",
    ),
]
"""(text, what replaces it, line, path, part of the error) for a fault in `GOOD`."""

DRAFT = """\
title: A recorded arm
replay_only: true
groups:
  - name: arm
    state: {topic: joint_states, rate: 30, max_age: {value: 200, unit: ms}}
    joints:
      - {driver_name: d0, name: j0, kind: revolute, lower: {observed: -1}, upper: {observed: 1}, \
velocity: {observed: 2}, acceleration: TODO, jerk: TODO}
"""
COMPLETE = """\
cameras:
  - {name: head, topic: head/image_raw, transport: raw, encoding: rgb8, height: 48, width: 64, rate: 15, \
max_age: 0.2, frame_id: head}
safety: {chunk_timeout: 0.25, max_jump: 0.2, tracking_error: 0.3, lead: 0.04, blend: 0.1}
"""
COMMAND = "    command: {kind: joint_trajectory, topic: arm/command, rate: 100}\n"


def without_the_flag(text: str = DRAFT) -> str:
    """Return what a person has who removes the flag and adds all that the file then lacks as a whole."""
    return (
        text.replace("replay_only: true\n", "").replace("    joints:\n", COMMAND + "    joints:\n") + COMPLETE
    )
