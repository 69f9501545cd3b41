# SPDX-License-Identifier: Apache-2.0
"""Commands of AHA-WAM: `wam convert aha-wam|fast-wam|lerobot-fastwam|add-vae|add-text`, `wam init action-dit`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from wam.core.errors import ConfigError
from wam.policies.task_text import warn_of_task
from wam.policies.unit_options import Embodiment, Robot, Units, unit_statements, warn_of_ranges
from wam.policies.units import UnitStatements

Checkpoint = Annotated[
    Path, typer.Argument(metavar="CKPT", help="The released .pt file (opened weights-only).")
]
Stats = Annotated[Path, typer.Argument(metavar="STATS", help="Its dataset_stats.json.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Directory of the new bundle; new or empty.")]
Vae = Annotated[
    Path | None,
    typer.Option(
        help="Wan 2.2 VAE, original or diffusers layout; without it run `wam convert add-vae` later."
    ),
]
Options = Annotated[
    Path | None,
    typer.Option(
        "--options",
        help="YAML with values that the checkpoint does not contain (head_dim, image_height, vae, ...); "
        "command-line flags override it.",
        show_default=False,
    ),
]
Cameras = Annotated[
    str, typer.Option(help="Camera names of the robot file, comma separated: one, or head,left,right.")
]
Joints = Annotated[
    str, typer.Option(help="Joint names of the robot file, comma separated.", show_default=False)
]
Rate = Annotated[float | None, typer.Option(help="Rows per second [Hz].", show_default="30")]
Steps = Annotated[
    int | None, typer.Option(help="Integration steps.", show_default="10; 2 for a distilled file")
]
Offset = Annotated[
    bool, typer.Option("--offset-training", help="It was trained with random phase offsets (horizon 80).")
]
Task = Annotated[str, typer.Option(help="Default task text.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")]


def aha_wam(
    checkpoint: Checkpoint,
    stats: Stats,
    out: Out,
    vae: Vae = None,
    options: Options = None,
    cameras: Cameras = "",
    state_joints: Joints = "",
    action_joints: Joints = "",
    control_rate: Rate = None,
    steps: Steps = None,
    offset_training: Offset = False,
    instruction: Task = "",
    embodiment: Embodiment = "",
    units: Units = None,
    robot: Robot = "",
    as_json: AsJson = False,
) -> None:
    """Turn an AHA-WAM, AHA-WAM-Flash or AHA-WAM-Pretrained checkpoint into a policy bundle.

    Every tensor must be there under its released name and in its shape; differences are listed by name.

    Example: wam convert aha-wam robotwin_ahawam.pt dataset_stats.json bundles/robotwin --vae Wan2.2_VAE.pth
    --embodiment robotwin_aloha --robot piper
    """
    from wam.policies.aha_wam.convert.aha_wam import convert_aha_wam

    given = _given(cameras, state_joints, action_joints, control_rate, steps, offset_training, instruction)
    _convert(
        convert_aha_wam,
        checkpoint,
        stats,
        out,
        vae,
        _options(options, given),
        unit_statements(units, embodiment=embodiment, robot=robot),
        as_json,
    )


def fast_wam(
    checkpoint: Checkpoint,
    stats: Stats,
    out: Out,
    vae: Vae = None,
    options: Options = None,
    cameras: Cameras = "",
    state_joints: Joints = "",
    action_joints: Joints = "",
    control_rate: Rate = None,
    steps: Steps = None,
    instruction: Task = "",
    embodiment: Embodiment = "",
    units: Units = None,
    robot: Robot = "",
    as_json: AsJson = False,
) -> None:
    """Turn a Fast-WAM checkpoint into a policy bundle (no memory, no routing).

    Example: wam convert fast-wam fastwam_piper.pt dataset_stats.json bundles/fast --cameras head
    """
    from wam.policies.aha_wam.convert.aha_wam import convert_fast_wam

    given = _given(cameras, state_joints, action_joints, control_rate, steps, False, instruction)
    _convert(
        convert_fast_wam,
        checkpoint,
        stats,
        out,
        vae,
        _options(options, given),
        unit_statements(units, embodiment=embodiment, robot=robot),
        as_json,
    )


def lerobot_fastwam(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="What LeRobot saved: config.json, model.safetensors, two processors."
        ),
    ],
    out: Out,
    state_joints: Annotated[
        str, typer.Option(help="Joint names of the robot file for observation.state, comma separated.")
    ],
    control_rate: Annotated[
        float, typer.Option(min=0.1, max=1000.0, help="Frames per second of its data set [Hz].")
    ],
    action_joints: Annotated[
        str, typer.Option(help="The same for action.", show_default="as the state")
    ] = "",
    cameras: Annotated[
        str,
        typer.Option(
            help="Camera names of the robot file in the order of the policy's images (by name), comma separated; "
            "head,left,right for one image that is a composite.",
            show_default="as in the policy",
        ),
    ] = "",
    vae: Vae = None,
    options: Options = None,
    instruction: Task = "",
    embodiment: Embodiment = "",
    units: Units = None,
    robot: Robot = "",
    as_json: AsJson = False,
) -> None:
    """Turn a Fast-WAM that LeRobot trained (`policy.type=fastwam`) into a policy bundle.

    Sizes, sampler, prompt, image order and statistics come from the folder. What a bundle cannot do is refused by name:
    a toggled action column, an adapter that is not merged, another processor step, a policy without the state.

    Example: wam convert lerobot-fastwam outputs/train/fold/checkpoints/last/pretrained_model bundles/fold
    --state-joints joint1,joint2,joint3,joint4,joint5,joint6,gripper --control-rate 30 --cameras head,wrist
    """
    from wam.policies.aha_wam.convert.lerobot import convert_lerobot_fast_wam

    joints = _names(state_joints) or ()
    _convert(
        partial(
            convert_lerobot_fast_wam,
            state_joints=joints,
            action_joints=_names(action_joints) or joints,
            control_rate=control_rate,
            cameras=_names(cameras) or (),
        ),
        folder,
        None,
        out,
        vae,
        _options(options, {"instruction": instruction} if instruction else {}),
        unit_statements(units, embodiment=embodiment, robot=robot),
        as_json,
    )


def add_vae(
    source: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle without a VAE.")],
    vae: Annotated[Path, typer.Argument(metavar="VAE", help="Wan 2.2 VAE, original or diffusers layout.")],
    out: Out,
) -> None:
    """Write a copy of a bundle with the VAE in it; its contract hash changes.

    Example: wam convert add-vae bundles/robotwin Wan2.2_VAE.pth bundles/robotwin_vae
    """
    from wam.policies.aha_wam.convert.aha_wam import add_vae as add

    with Console(stderr=True).status(f"adding {vae.name}"):
        made = add(source, vae, out)
    typer.echo(f"{out}: contract {made.contract.contract_hash}")


def add_text(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle; its contract hash stays.")],
    tasks: Annotated[
        list[str], typer.Argument(metavar="TASK...", help="Task texts as operators will give them.")
    ],
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="Directory with tokenizer/ and text_encoder/ (diffusers layout), or tokenizer/ and models_t5*.pth.",
            show_default=False,
        ),
    ] = None,
    released_cache: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the release's embedding files, in place of an encoder.", show_default=False
        ),
    ] = None,
) -> None:
    """Embed task texts once and put them into a bundle, so that a robot needs no 5.7 B text encoder.

    Example: wam convert add-text bundles/robotwin "stack the bowls" --encoder ~/Wan2.2-TI2V-5B-Diffusers
    """
    from wam.models.bundle.manifest import read_manifest
    from wam.models.text import Umt5TextEncoder
    from wam.policies.aha_wam.convert.aha_wam import add_text_embeddings, import_released_text_cache
    from wam.policies.aha_wam.policy import config_of

    if released_cache is not None:
        path = import_released_text_cache(bundle, released_cache, tasks)
    elif encoder is not None:
        text_len = config_of(read_manifest(bundle)).context_len
        with Console(stderr=True).status(f"embedding with {encoder}"):
            loaded = Umt5TextEncoder.from_directory(encoder, text_len=text_len)
        path = add_text_embeddings(bundle, tasks, loaded, encoder_name=encoder.name)
    else:
        raise ConfigError(
            "no source of embeddings was named",
            allowed="--encoder or --released-cache",
            where="the command line",
        )
    typer.echo(f"{path}: {len(tasks)} task texts")


def action_dit(
    video: Annotated[
        Path,
        typer.Argument(help="Wan 2.2 video DiT: its directory (original or diffusers layout) or one file."),
    ],
    out: Annotated[
        Path, typer.Argument(help="The .pt file to write; training takes it as model.action_backbone.")
    ],
    preset: Annotated[str, typer.Option(help="Sizes of the network: paper or tiny.")] = "paper",
) -> int:
    """Shrink the video DiT to the action expert by linear interpolation; its encoder and head stay random."""
    from wam.policies.aha_wam.convert.action_backbone import write_action_backbone
    from wam.policies.aha_wam.training.start import preset_config

    if out.exists():
        raise ConfigError(f"{out} exists already", allowed="a new file", where="OUT")
    config = preset_config(preset, {})
    write_action_backbone(video, out, config)
    megabytes = out.stat().st_size / 1e6
    Console().print(
        f"[green]wrote[/green] {out} ({megabytes:.1f} MB): {config.action.layers} layers of {preset}"
    )
    return 0


CONVERT = {
    "aha-wam": aha_wam,
    "fast-wam": fast_wam,
    "lerobot-fastwam": lerobot_fastwam,
    "add-vae": add_vae,
    "add-text": add_text,
}
"""What `wam convert` adds for this policy."""
INIT = {"action-dit": action_dit}
"""What `wam init` adds for this policy."""


def _given(
    cameras: str,
    state_joints: str,
    action_joints: str,
    control_rate: float | None,
    steps: int | None,
    offset_training: bool,
    instruction: str,
) -> dict[str, Any]:
    given: dict[str, Any] = {
        "cameras": _names(cameras),
        "state_joints": _names(state_joints),
        "action_joints": _names(action_joints),
        "control_rate": control_rate,
        "steps": steps,
        "offset_training": offset_training or None,
        "instruction": instruction or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _names(text: str) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in text.split(",") if name.strip()) or None


def _options(path: Path | None, given: dict[str, Any]) -> Any:
    """Return the conversion options: defaults, then the file, then the flags.

    Raises:
        ConfigError: the file is malformed or has an unknown key.
    """
    from wam.policies.aha_wam.config import VaeConfig
    from wam.policies.aha_wam.convert.source import ConversionOptions

    values: dict[str, Any] = {}
    if path is not None:
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"options file {path} cannot be read: {error}", where="--options") from error
        values = _known(raw, ConversionOptions, str(path))
        if "vae" in values:
            values["vae"] = VaeConfig(**_known(values["vae"], VaeConfig, f"{path}: vae"))
    return ConversionOptions(**{**values, **given})


def _known(raw: Any, kind: type[Any], what: str) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(raw, dict) or any(key not in names for key in raw):
        unknown = [key for key in raw if key not in names] if isinstance(raw, dict) else raw
        raise ConfigError(f"{what}: unknown key", value=unknown, known=names, where="--options")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}


def _convert(
    convert: Callable[..., Any],
    checkpoint: Path,
    stats: Path | None,
    out: Path,
    vae: Path | None,
    options: Any,
    units: UnitStatements,
    as_json: bool,
) -> None:
    from wam.policies.aha_wam.convert.aha_wam import describe

    with Console(stderr=True).status(f"converting {checkpoint.name}"):
        files = (checkpoint,) if stats is None else (checkpoint, stats)
        bundle = convert(*files, out, options=options, vae=vae, units=units)
    warn_of_ranges(bundle, units)
    unsaid = options.instruction == type(options)().instruction
    warn_of_task(bundle, "" if unsaid else options.instruction)
    facts = {"bundle": str(out), "contract": bundle.contract.contract_hash, **describe(out)}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(
        f"{out}: {facts['tensors']} tensors, {facts['dtype']}, contract {bundle.contract.contract_hash}"
    )
    for missing in facts["lacks"]:
        typer.echo(f"  still missing: {missing}")
