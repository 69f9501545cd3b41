# SPDX-License-Identifier: Apache-2.0
"""Commands of UD-VLA: `wam convert ud-vla|univla|emu3`."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wam.core.clock import NS_PER_S
from wam.core.errors import BundleError, ConfigError
from wam.policies.task_text import warn_of_task
from wam.policies.unit_options import Embodiment, Units, unit_statements, warn_of_ranges

if TYPE_CHECKING:
    from wam.models.bundle import BundleCamera
    from wam.models.robot_layout import RobotLayout

TEXT_FILE = "emu3.tiktoken"
SIDES = (200, 80)
"""Sides of the first view and of all others in the published data sets [px]."""

HELP = {
    "ud-vla": "Turn a published UD-VLA checkpoint (folder of the Hugging Face trainer) into a policy bundle.",
    "univla": "Turn a UniVLA checkpoint, the start of UD-VLA's training, into a bundle for `wam train ud-vla`.",
    "emu3": "Turn Emu3 in the library's layout (decoder and image tokenizer in one) into a bundle for training.",
}
DETAIL = """

Every tensor must be there with its shape; mismatched names are listed and nothing is written.

Example: wam convert {kind} ~/{kind} bundles/ur5e --robot ur5e_inspire --stats norm_stats.json --action-tokenizer
fast_a8 --vision ~/Emu3-VisionTokenizer --text ~/Emu3/emu3.tiktoken
"""


class TrainedMask(enum.Enum):
    """Attention masks that a bundle may name."""

    HYBRID = "hybrid"
    RELEASED = "released"


class DecoderPrecision(enum.Enum):
    """Of the decoder's weights in the bundle."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


def _command(kind: str) -> Callable[..., None]:
    def command(
        source: Annotated[
            Path, typer.Argument(metavar="SRC", help="Folder with config.json and safetensors.")
        ],
        out: Annotated[
            Path, typer.Argument(metavar="OUT", help="Folder of the new bundle; it must not exist.")
        ],
        stats: Annotated[Path, typer.Option(help="norm_stats.json as published, or stats.json of a bundle.")],
        action_tokenizer: Annotated[
            Path, typer.Option(help="Published FAST folder, or action_tokenizer.json of a bundle.")
        ],
        vision: Annotated[
            Path | None,
            typer.Option(
                help="Folder of Emu3's image tokenizer; without it SRC must hold it.", show_default=False
            ),
        ] = None,
        text: Annotated[
            Path | None,
            typer.Option(
                help=f"Text vocabulary ({TEXT_FILE}); without it SRC is searched.", show_default=False
            ),
        ] = None,
        robot: Annotated[
            str | None,
            typer.Option(
                help="Robot file that gives joints and cameras; default: the UR5e of the paper.",
                show_default=False,
            ),
        ] = None,
        camera: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME=HEIGHTxWIDTH",
                help="A view and the size that the policy sees, in order; may be repeated. Default: the robot's, the "
                f"first of {SIDES[0]} px, others of {SIDES[1]} px.",
                show_default=False,
            ),
        ] = None,
        action_joints: Annotated[
            str, typer.Option(help="Names of the action numbers, by commas; default: the robot's joints.")
        ] = "",
        rate: Annotated[float, typer.Option(help="Rows per second [Hz].", min=0.1)] = 15.0,
        chunk_rows: Annotated[int, typer.Option(help="Rows of a chunk.", min=1)] = 8,
        action_len: Annotated[int, typer.Option(help="Sites of the action block with BOA.", min=2)] = 70,
        steps: Annotated[int, typer.Option(help="T of the sampler.", min=1)] = 72,
        mask: Annotated[
            TrainedMask | None,
            typer.Option(
                help="Mask that the weights were trained with; default: released for ud-vla, hybrid for the others.",
                show_default=False,
            ),
        ] = None,
        instruction: Annotated[
            str, typer.Option(help="Task text used when nobody sets another.", show_default=False)
        ] = "",
        embodiment: Embodiment = "",
        units: Units = None,
        dtype: Annotated[
            DecoderPrecision, typer.Option(help="Of the decoder's weights.")
        ] = DecoderPrecision.BFLOAT16,
    ) -> None:
        from wam.policies.ud_vla import ur5e
        from wam.policies.ud_vla.config import MaskMode
        from wam.policies.ud_vla.convert.ud_vla import ConvertOptions, convert
        from wam.policies.ud_vla.convert.ud_vla_sizes import read_statistics, read_vision_config
        from wam.policies.ud_vla.jd3p import Jd3pSettings
        from wam.policies.ud_vla.tokens import RELEASED

        stated = unit_statements(units, embodiment=embodiment, robot=robot or ur5e.ROBOT)
        layout = _layout(robot, rate=rate, action_joints=action_joints, instruction=instruction)
        trained = mask or (TrainedMask.RELEASED if kind == "ud-vla" else TrainedMask.HYBRID)
        bundle = convert(
            kind,
            source,
            out,
            options=ConvertOptions(
                robot=layout,
                stats=stated.apply(
                    read_statistics(
                        stats, state_width=len(layout.state_joints), action_width=len(layout.action_joints)
                    ),
                    state_joints=layout.state_joints,
                    action_joints=layout.action_joints,
                ),
                cameras=_cameras(camera, layout),
                mask=MaskMode(trained.value),
                chunk_rows=chunk_rows,
                action_len=action_len,
                sampler=Jd3pSettings(steps=steps),
                vision=read_vision_config(vision or source, codes=RELEASED.visual_count),
                dtype=dtype.value,
            ),
            action_tokenizer=action_tokenizer,
            text_ranks=_text(text, source),
            vision=vision,
        )
        warn_of_ranges(bundle, stated)
        warn_of_task(bundle, instruction)
        contract = bundle.contract.contract_hash[:12]
        typer.echo(f"{bundle.directory}: {len(bundle.weights.tensors)} tensors, contract {contract}")

    command.__doc__ = HELP[kind] + DETAIL.format(kind=kind)
    return command


CONVERT = {kind: _command(kind) for kind in HELP}
"""What `wam convert` adds for this policy."""


def _layout(robot: str | None, *, rate: float, action_joints: str, instruction: str) -> RobotLayout:
    from wam.devices.loader import load_robot
    from wam.models.robot_layout import RobotLayout
    from wam.policies.ud_vla import ur5e

    layout = ur5e.layout() if robot is None else RobotLayout.of(load_robot(robot, moves=False))
    layout = replace(layout, control_period_ns=round(NS_PER_S / rate))
    if names := tuple(name.strip() for name in action_joints.split(",") if name.strip()):
        layout = replace(
            layout,
            state_joints=names,
            action_joints=names,
            centre=(0.0,) * len(names),
            spread=(1.0,) * len(names),
        )
    return replace(layout, instruction=instruction) if instruction else layout


def _cameras(given: list[str] | None, layout: RobotLayout) -> tuple[BundleCamera, ...]:
    """Return the views with their sizes.

    Raises:
        ConfigError: one has another form.
    """
    from wam.models.bundle import BundleCamera

    if not given:
        sides = (SIDES[0],) + (SIDES[1],) * (len(layout.cameras) - 1)
        return tuple(BundleCamera(name, side, side) for name, side in zip(layout.cameras, sides, strict=True))
    cameras = []
    for text in given:
        name, _, size = text.partition("=")
        height, _, width = size.partition("x")
        if not (name and height.isdecimal() and width.isdecimal()):
            raise ConfigError(
                "option --camera",
                value=text,
                allowed="NAME=HEIGHTxWIDTH, e.g. static=200x200",
                where="--camera",
            )
        cameras.append(BundleCamera(name, int(height), int(width)))
    return tuple(cameras)


def _text(given: Path | None, source: Path) -> Path:
    """Return the file of the text vocabulary.

    Raises:
        BundleError: there is none; without it, instructions become other tokens than those of the training.
    """
    path = given or source / TEXT_FILE
    if not path.is_file():
        raise BundleError(
            f"the text vocabulary {path} is missing",
            allowed=f"{TEXT_FILE} as published with Emu3",
            where="--text",
        )
    return path
