# SPDX-License-Identifier: Apache-2.0
"""ROS parameters declared once, as fields of a frozen dataclass.

    @dataclass(frozen=True, slots=True)
    class SafetyParameters:
        robot: str = parameter(description="robot file ...", read_only=True)           # required: no default
        lead: float = parameter(0.04, description="...", unit="s", lower=0.0, upper=0.2)

`declare(node, SafetyParameters)` declares every field with type, description, unit and range, and returns the
filled dataclass. Values are read once, at configure; a later `ros2 param set` is refused with a reason.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterUninitializedException,
)
from rclpy.parameter import Parameter

from wam.core.errors import ConfigError
from wam.core.parameters import parameter

if TYPE_CHECKING:
    from rclpy.node import Node

__all__ = ["declare", "describe", "parameter", "refuse_changes"]

P = TypeVar("P")

_TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    "tuple[str, ...]": Parameter.Type.STRING_ARRAY,
}


def describe(field: dataclasses.Field[Any]) -> ParameterDescriptor:
    """Return the ROS descriptor of a field made by `parameter`."""
    meta = field.metadata
    text = meta["description"] + (f" [{meta['unit']}]" if meta["unit"] else "")
    if meta["choices"]:
        text += f" (one of {', '.join(meta['choices'])})"
    descriptor = ParameterDescriptor(description=text)
    lower, upper = meta["lower"], meta["upper"]
    if lower is not None or upper is not None:
        if field.type in (int, "int"):
            low = -(2**63) if lower is None else int(lower)
            high = 2**63 - 1 if upper is None else int(upper)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
        else:
            low_f = -sys.float_info.max if lower is None else float(lower)
            high_f = sys.float_info.max if upper is None else float(upper)
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=low_f, to_value=high_f, step=0.0)
            ]
    return descriptor


def declare(node: Node, kind: type[P]) -> P:
    """Declare every field of `kind` on `node` and return the values in force.

    Args:
        node: the node that owns the parameters; declaring twice (configure after cleanup) is fine.
        kind: frozen dataclass whose fields were made by `parameter`.

    Raises:
        ConfigError: a required parameter is missing, or a value has the wrong type or is out of range;
            the text names the parameter, the value, what is allowed and where to change it.
    """
    values: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        values[field.name] = _declare_one(node, field, hints[field.name])
    return kind(**values)


def refuse_changes(node: Node, kind: type[Any]) -> None:
    """Make `ros2 param set` on any field of `kind` fail with a reason that says how to change it."""
    names = {field.name for field in dataclasses.fields(kind)}

    def refuse(parameters: list[Parameter[Any]]) -> SetParametersResult:
        blocked = sorted(p.name for p in parameters if p.name in names)
        if blocked:
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(blocked)} is read at configure only; set it in the parameter file or on the "
                "command line and restart the node",
            )
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(refuse)


def _declare_one(node: Node, field: dataclasses.Field[Any], hint: Any) -> Any:
    where = f"the parameter `{field.name}` of node {node.get_fully_qualified_name()} (parameter file or -p)"
    type_key = "tuple[str, ...]" if "tuple" in str(hint) else hint
    if not node.has_parameter(field.name):
        required = field.default is dataclasses.MISSING
        given: Any = _TYPES[type_key] if required else field.default
        if isinstance(given, tuple):
            given = list(given) if given else Parameter.Type.STRING_ARRAY
        try:
            node.declare_parameter(field.name, given, describe(field))
        except InvalidParameterTypeException as error:
            raise ConfigError(
                f"parameter {field.name} has the wrong type", value=str(error), allowed=str(hint), where=where
            ) from None
        except InvalidParameterValueException as error:
            raise ConfigError(
                f"parameter {field.name} is out of range",
                value=str(error),
                allowed=_allowed(field),
                where=where,
            ) from None
    try:
        value = node.get_parameter(field.name).value
    except ParameterUninitializedException:
        value = None
    if value is None and type_key == "tuple[str, ...]":
        value = field.default if field.default is not dataclasses.MISSING else None
    if value is None or (value == "" and field.default is dataclasses.MISSING):
        raise ConfigError(
            f"parameter {field.name} is required and was not set", allowed=_allowed(field), where=where
        )
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise ConfigError(f"parameter {field.name}", value=value, allowed=_allowed(field), where=where)
    return tuple(value) if type_key == "tuple[str, ...]" else value


def _allowed(field: dataclasses.Field[Any]) -> str:
    meta = field.metadata
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    unit = f" {meta['unit']}" if meta["unit"] else ""
    if meta["lower"] is not None or meta["upper"] is not None:
        low = "-inf" if meta["lower"] is None else meta["lower"]
        high = "inf" if meta["upper"] is None else meta["upper"]
        return f"{low} .. {high}{unit}"
    return str(meta["description"])
