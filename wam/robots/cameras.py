# SPDX-License-Identifier: Apache-2.0
"""Cameras of a robot file; a camera of a known make takes what its driver fixes from `config/cameras/NAME.yaml`."""

from __future__ import annotations

from pathlib import Path

from wam.robots.camera_spec import CameraSpec, CameraTransport, Reliability
from wam.robots.images import COMPRESSED_FORMATS, RAW_ENCODINGS, VIDEO_CODECS
from wam.robots.names import name_of, require_periods, topic_of
from wam.robots.paths import share_roots
from wam.robots.units import Dimension
from wam.robots.yaml_reader import Value, read_yaml

MAX_SIDE_PX = 8192
NAME_MARK = "NAME"
"""Stands for the camera's name in the topic and frame of a preset."""
OWN = ("height", "width", "rate", "max_age")
PRESET = ("topic", "transport", "encoding", "frame_id")
OPTIONAL = ("vertical_fov", "reliability", "latency")


def list_presets() -> tuple[str, ...]:
    """Return the makes of cameras in config/cameras, sorted."""
    return tuple(
        sorted({file.stem for root in share_roots() for file in (root / "config/cameras").glob("*.yaml")})
    )


ENCODINGS = {
    CameraTransport.RAW: tuple(RAW_ENCODINGS),
    CameraTransport.COMPRESSED: COMPRESSED_FORMATS,
    CameraTransport.FFMPEG: VIDEO_CODECS,
    CameraTransport.FOXGLOVE: VIDEO_CODECS,
}
"""Transport -> what a robot file may name as its encoding."""


def read_camera(value: Value) -> CameraSpec:
    """Return a camera.

    Raises:
        ConfigError: a key is unknown, missing or illegal, or there is no such preset.
    """
    table = value.table()
    if "preset" in table:
        given = value.fields(("name", "preset", *OWN), (*PRESET, *OPTIONAL))
        fields = {**_preset(given["preset"], name_of(given["name"])), **given}
    else:
        fields = value.fields(("name", *PRESET, *OWN), OPTIONAL)
    name = name_of(fields["name"])
    transport = fields["transport"].choice(CameraTransport)
    encodings = ENCODINGS[transport]
    encoding = fields["encoding"].text()
    if encoding not in encodings:
        raise fields["encoding"].error("is illegal", value=encoding, known=encodings)
    fov = (
        fields["vertical_fov"].quantity(Dimension.ANGLE, lower=0.01, upper=3.0)
        if "vertical_fov" in fields
        else None
    )
    rate = fields["rate"].quantity(Dimension.FREQUENCY, lower=0.01, upper=1000.0)
    max_age_ns = fields["max_age"].duration_ns()
    require_periods(max_age_ns, rate, fields["max_age"])
    return CameraSpec(
        name=name,
        topic=topic_of(fields["topic"]),
        transport=transport,
        encoding=encoding,
        height=fields["height"].integer(lower=1, upper=MAX_SIDE_PX),
        width=fields["width"].integer(lower=1, upper=MAX_SIDE_PX),
        rate=rate,
        max_age_ns=max_age_ns,
        frame_id=name_of(fields["frame_id"]),
        vertical_fov=fov,
        latency_ns=fields["latency"].duration_ns(lower=0.0, upper=5.0) if "latency" in fields else 0,
        reliability=fields["reliability"].choice(Reliability)
        if "reliability" in fields
        else Reliability.AUTO,
        preset=fields["preset"].text() if "preset" in fields else "",
    )


def _preset(value: Value, camera: str) -> dict[str, Value]:
    """Return the entries of a preset for the camera called `camera`."""
    name = value.text()
    file = _file(name)
    if file is None:
        raise value.error("is no known camera", value=name, known=list_presets())
    fields = read_yaml(file).fields(("title", *PRESET), OPTIONAL)
    del fields["title"]
    return {
        key: entry.replaced(NAME_MARK, camera) if key in ("topic", "frame_id") else entry
        for key, entry in fields.items()
    }


def _file(name: str) -> Path | None:
    places = [root / "config" / "cameras" / f"{name}.yaml" for root in share_roots()]
    return next((path for path in places if path.is_file()), None)
