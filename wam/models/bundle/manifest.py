# SPDX-License-Identifier: Apache-2.0
"""`policy.yaml`: what a policy is, apart from its weights.

The keys are the fields of `Manifest`; unknown and missing keys are errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from wam.core.contract import NOT_STATED, CameraContract, PolicyContract, TrainedOn
from wam.core.errors import BundleError
from wam.models.normalisation import NormMode

FORMAT = 1
MANIFEST_NAME = "policy.yaml"
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class BundleCamera:
    """One camera of the policy.

    Attributes:
        name: name in the robot file.
        height: rows that its view is resized to [px].
        width: columns [px].
        top: first row of the view in the composite image; None where views are not composed.
        left: first column.
    """

    name: str
    height: int
    width: int
    top: int | None = None
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of `policy.yaml`.

    Attributes:
        kind: policy kind that opens the bundle, e.g. "aha_wam"; the table of kinds is `wam.policies.registry`.
        model: sizes of the network, the loader's own keys.
        cameras: in the order of the policy's input.
        state_joints: joint names of the proprioception, in order; `stats.json` states their units.
        action_joints: joint names of the action rows, in order; units likewise.
        control_period_ns: time between two rows [ns].
        chunk_rows: rows delivered at once.
        horizon_rows: rows that one planner context can serve.
        instruction: task text used when nobody sets another.
        instruction_template: text for the encoder; "{task}" is replaced by the instruction.
        state_norm: how the state is normalised.
        action_norm: how actions are normalised.
        dtype: of the weights.
        text: how instructions are embedded, the loader's own keys.
        sampler: steps, seed and the like, the loader's own keys.
        source: where the weights come from (file, step, licence), for people.
        relative_actions: action rows are relative to the measured state at their observation, not positions.
        environment: names of the ground truth that the policy needs, in order; only simulated robots have it.
        task: name of the task that it was trained for; "" for not stated.
        trained_on: the data that it was trained on.
        execute_rows: rows of a chunk that are executed before the next one is computed; 0: as the executor likes.
    """

    kind: str
    model: Mapping[str, Any]
    cameras: tuple[BundleCamera, ...]
    state_joints: tuple[str, ...]
    action_joints: tuple[str, ...]
    control_period_ns: int
    chunk_rows: int
    horizon_rows: int
    instruction: str
    instruction_template: str
    state_norm: NormMode
    action_norm: NormMode
    dtype: str
    text: Mapping[str, Any]
    sampler: Mapping[str, Any]
    source: Mapping[str, Any]
    relative_actions: bool = False
    environment: tuple[str, ...] = ()
    task: str = ""
    trained_on: TrainedOn = NOT_STATED
    execute_rows: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise BundleError(f"{MANIFEST_NAME}: dtype", value=self.dtype, allowed=f"one of {DTYPES}")
        if "{task}" not in self.instruction_template:
            raise BundleError(
                f"{MANIFEST_NAME}: instruction_template",
                value=self.instruction_template,
                allowed='text with "{task}"',
            )

    def contract(self, contract_hash: str) -> PolicyContract:
        """Return what nodes must agree on.

        Raises:
            BundleError: the rows, the period or the joint names are impossible.
        """
        try:
            return PolicyContract(
                kind=self.kind,
                contract_hash=contract_hash,
                cameras=tuple(CameraContract(c.name, c.height, c.width) for c in self.cameras),
                state_joints=self.state_joints,
                action_joints=self.action_joints,
                control_period_ns=self.control_period_ns,
                chunk_rows=self.chunk_rows,
                horizon_rows=self.horizon_rows,
                instruction=self.instruction,
                relative_actions=self.relative_actions,
                environment=self.environment,
                task=self.task,
                trained_on=self.trained_on,
                execute_rows=self.execute_rows,
            )
        except ValueError as error:
            raise BundleError(f"{MANIFEST_NAME}: {error}") from error

    def to_yaml(self) -> str:
        """Return the text of `policy.yaml`."""
        plain: dict[str, Any] = {"format": FORMAT}
        for field in fields(self):
            # Files of before the option was there keep their contract hash.
            if field.default is MISSING or getattr(self, field.name) != field.default:
                plain[field.name] = _plain(getattr(self, field.name))
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110)

    @staticmethod
    def from_yaml(text: str, *, what: str = MANIFEST_NAME) -> Manifest:
        """Read `policy.yaml`.

        Args:
            text: of the file.
            what: its place, for error texts.

        Raises:
            BundleError: it is not YAML, of another format, or a key is unknown, missing or illegal.
        """
        try:
            raw = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BundleError(f"{what} is not YAML: {error}") from error
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
            raise BundleError(
                f"{what}: format", value=found, allowed=f"{FORMAT}", where="convert the bundle again"
            )
        known = {f.name for f in fields(Manifest)}
        required = {f.name for f in fields(Manifest) if f.default is MISSING}
        given = set(raw) - {"format"}
        if not required <= given <= known:
            raise BundleError(
                f"{what}: missing keys {sorted(required - given)}, unknown keys {sorted(given - known)}",
                allowed=f"{sorted(required)}, and optionally {sorted(known - required)}",
            )
        if not isinstance(raw.get("relative_actions", False), bool):
            raise BundleError(
                f"{what}: relative_actions", value=raw["relative_actions"], allowed="true or false"
            )
        execute = raw.get("execute_rows", 0)
        if isinstance(execute, bool) or not isinstance(execute, int):
            raise BundleError(f"{what}: execute_rows", value=execute, allowed="a number of rows, or 0")
        if not isinstance(raw.get("task", ""), str):
            raise BundleError(f"{what}: task", value=raw["task"], allowed="the name of a task")
        try:
            data = dict(raw.get("trained_on", {}))
            return Manifest(
                **{
                    **{k: v for k, v in raw.items() if k != "format"},
                    "cameras": tuple(BundleCamera(**c) for c in raw["cameras"]),
                    "state_joints": tuple(raw["state_joints"]),
                    "action_joints": tuple(raw["action_joints"]),
                    "environment": tuple(raw.get("environment", ())),
                    "state_norm": NormMode(raw["state_norm"]),
                    "action_norm": NormMode(raw["action_norm"]),
                    "trained_on": TrainedOn(**{**data, "seeds": tuple(data.get("seeds", ()))}),
                }
            )
        except (TypeError, ValueError) as error:
            raise BundleError(f"{what}: {error}") from error


def read_manifest(directory: Path) -> Manifest:
    """Read `policy.yaml` of a bundle.

    Raises:
        BundleError: it is missing or illegal.
    """
    path = directory / MANIFEST_NAME
    if not path.is_file():
        raise BundleError(
            f"{directory} is no policy bundle: {MANIFEST_NAME} is missing", where="the parameter `policy`"
        )
    return Manifest.from_yaml(path.read_text(encoding="utf-8"), what=str(path))


def _plain(value: Any) -> Any:
    if isinstance(value, NormMode):
        return value.value
    if isinstance(value, BundleCamera):
        return {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) is not None}
    if isinstance(value, TrainedOn):
        stated = {f.name: getattr(value, f.name) for f in fields(value)}
        return {name: _plain(inner) for name, inner in stated.items() if inner}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return value
