# SPDX-License-Identifier: Apache-2.0
"""What `wam info --robot NAME` tells: a robot as plain values, ready for JSON and for tables."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from wam.core.clock import ns_to_seconds
from wam.core.safety.effort import EffortLimits
from wam.robots.camera_spec import CameraSpec
from wam.robots.description import UNSTATED, JointGroup, JointSpec, RobotDescription
from wam.robots.urdf import robot_urdf, urdf_joints
from wam.robots.zone_file import ZoneSpec


def describe(robot: RobotDescription) -> dict[str, Any]:
    """Return a robot as JSON-ready values, in SI units.

    Keys: name, title, source, replay_only, unstated [dotted paths of what a file for replay leaves open], model {urdf,
    args, srdf} or null, groups [{name, driver, base_link, tip_link, state, command, twin, gripper_on_enable, payload or
    null, joints [...]}], cameras [...], zones [...], safety {...} or null, frames [{link, parent, joint, kind}] (empty
    without a model).

    Raises:
        ConfigError: the model is faulty.
        MissingDependency: the robot has a model and xacro is not installed.
    """
    model = None
    frames: list[dict[str, Any]] = []
    if robot.urdf is not None:
        model = {
            "urdf": str(robot.urdf),
            "args": dict(robot.xacro_args),
            "srdf": None if robot.srdf is None else str(robot.srdf),
        }
        frames = [
            {"link": joint.child, "parent": joint.parent, "joint": joint.name, "kind": joint.kind}
            for joint in urdf_joints(robot_urdf(robot)).values()
        ]
    safety = robot.safety
    return {
        "name": robot.name,
        "title": robot.title,
        "source": str(robot.source),
        "replay_only": robot.replay_only,
        "unstated": list(robot.unstated),
        "model": model,
        "groups": [_group(group) for group in robot.groups],
        "cameras": [_camera(camera) for camera in robot.cameras],
        "zones": [_zone(zone) for zone in robot.zones],
        "safety": None
        if "safety" in robot.unstated
        else {
            "chunk_timeout_s": ns_to_seconds(safety.chunk_timeout_ns),
            "max_jump": safety.max_jump,
            "tracking_error": safety.tracking_error,
            "lead_s": ns_to_seconds(safety.lead_ns),
            "delivery_jitter_s": ns_to_seconds(safety.delivery_jitter_ns),
            "blend_s": ns_to_seconds(safety.blend_ns),
            "estop_sources": [
                {"name": one.name, "topic": one.topic, "heartbeat_s": ns_to_seconds(one.heartbeat_ns)}
                for one in safety.estop_sources
            ],
        },
        "frames": frames,
    }


def _group(group: JointGroup) -> dict[str, Any]:
    return {
        "name": group.name,
        "driver": group.driver,
        "base_link": group.base_link,
        "tip_link": group.tip_link,
        "state": {
            "topic": group.state_topic,
            "rate_hz": group.state_rate,
            "max_age_s": ns_to_seconds(group.state_max_age_ns),
        },
        "command": {
            "kind": group.command_kind.value,
            "topic": group.command_topic,
            "rate_hz": group.command_rate,
            "topic_by_distribution": {one.value: topic for one, topic in group.command_topics},
            "lead_s": ns_to_seconds(group.command_lead_ns),
        },
        "twin": {
            "delay_s": ns_to_seconds(group.twin.delay_ns),
            "interface": group.twin.interface.value,
            "generation": group.twin.generation,
        },
        "gripper_on_enable": group.gripper_on_enable.value,
        "payload": None if group.payload is None else asdict(group.payload),
        "joints": [_joint(joint) for joint in group.joints],
    }


def _joint(joint: JointSpec) -> dict[str, Any]:
    return {
        "name": joint.name,
        "driver_name": joint.driver_name,
        "kind": joint.kind.value,
        "unit": joint.kind.unit,
        "lower": joint.lower,
        "upper": joint.upper,
        "velocity": joint.velocity,
        "acceleration": _stated(joint.acceleration),
        "jerk": _stated(joint.jerk),
        "home": joint.home,
        "gripper": joint.is_gripper,
        "velocity_envelope": None if joint.envelope is None else asdict(joint.envelope),
        "raw": None if joint.raw is None else asdict(joint.raw),
        "conversion": asdict(joint.conversion),
        "effort": _effort(joint.effort),
        "external_torque": _effort(joint.external_torque),
        "model_joints": [
            {"name": coupled.name, "ratio": coupled.ratio, "offset": coupled.offset}
            for coupled in joint.model_joints
        ],
    }


def _stated(value: float) -> float | None:
    return None if value == UNSTATED else value


def _zone(zone: ZoneSpec) -> dict[str, Any]:
    return {
        "name": zone.name,
        "kind": "slow" if zone.speed else "stop",
        "target": zone.target,
        "points": [part.value for part in zone.parts],
        "lower": list(zone.lower),
        "upper": list(zone.upper),
        "speed": zone.speed or None,
    }


def _effort(limits: EffortLimits) -> dict[str, Any] | None:
    if not limits.guarded:
        return None
    return {
        key: value if math.isfinite(value) else None
        for key, value in (("hold", limits.hold), ("stop", limits.stop))
    } | {"unit": limits.unit}


def _camera(camera: CameraSpec) -> dict[str, Any]:
    return {
        "name": camera.name,
        "topic": camera.topic,
        "transport": camera.transport.value,
        "encoding": camera.encoding,
        "height": camera.height,
        "width": camera.width,
        "rate_hz": camera.rate,
        "max_age_s": ns_to_seconds(camera.max_age_ns),
        "frame_id": camera.frame_id,
        "reliability": camera.reliability.value,
        "preset": camera.preset,
        "vertical_fov_deg": None
        if camera.vertical_fov is None
        else round(math.degrees(camera.vertical_fov), 6),
        "latency_s": ns_to_seconds(camera.latency_ns),
    }
