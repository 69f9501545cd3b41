# SPDX-License-Identifier: Apache-2.0
"""Parameter counts of the presets and readings, and sizes that cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wam.policies.dust.config import (
    PRESETS,
    DustConfig,
    EagleConfig,
    gr00t_n1,
    paper,
    preset,
    tiny,
    with_depth,
)
from wam.policies.dust.encoders import sinusoid
from wam.policies.dust.head import DustHead
from wam.policies.dust.model import FeatureProjection, parameter_counts
from wam.policies.dust.readings import BlockStyle, Conditioning, HeadLayout

TRUNK_PARTS = ("mm", "tail", "out", "time_a", "time_o")


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def head_of(config: DustConfig) -> DustHead:
    with torch.device("meta"):
        return DustHead(config)


def test_the_papers_system_has_its_parameters_part_by_part() -> None:
    counts = parameter_counts(paper())
    assert counts["total"] == 2_961_610_608
    assert counts["backbone.vision"] == 412_442_352
    assert counts["backbone.language"] == 906_045_440
    assert counts["backbone.mlp1"] == 13_644_800
    assert counts["backbone.linear"] == 3_147_264
    assert sum(n for part, n in counts.items() if part.startswith("head.")) == 1_626_330_752


def test_gr00t_n1_has_its_parameters() -> None:
    counts = parameter_counts(gr00t_n1())
    assert counts["total"] == 2_190_016_752
    assert sum(n for part, n in counts.items() if part.startswith("head.")) == 854_736_896


@pytest.mark.parametrize(
    ("style", "conditioning", "trunk", "whole", "one_slot", "projections"),
    [
        (BlockStyle.SD3, Conditioning.ALTERNATE, 1_302_247_424, 1_626_330_752, 1_320_825_504, 75_546_624),
        (BlockStyle.N1, Conditioning.ALTERNATE, 1_075_607_552, 1_399_690_880, 1_094_185_632, 75_546_624),
        (BlockStyle.SD3, Conditioning.EVERY, 1_528_887_296, 1_852_970_624, 1_547_465_376, 132_206_592),
        (BlockStyle.N1, Conditioning.EVERY, 1_302_247_424, 1_626_330_752, 1_320_825_504, 132_206_592),
    ],
)
def test_every_reading_has_its_parameters(
    style: BlockStyle, conditioning: Conditioning, trunk: int, whole: int, one_slot: int, projections: int
) -> None:
    config = replace(paper(), style=style, conditioning=conditioning)
    head = head_of(config)
    assert sum(count(getattr(head, part)) for part in TRUNK_PARTS) == trunk
    assert count(head) == whole
    with torch.device("meta"):
        own = FeatureProjection(config)
    assert count(own) == projections
    head.keep_embodiment(5)
    assert count(head) == one_slot


@pytest.mark.parametrize(
    ("mm_layers", "trunk"),
    [(6, 1_188_927_488), (10, 1_264_474_112), (12, 1_302_247_424), (14, 1_340_020_736)],
)
def test_the_depth_ablation_moves_layers_between_trunk_and_tails(mm_layers: int, trunk: int) -> None:
    config = with_depth(paper(), mm_layers)
    assert config.mm_layers + config.tail_layers == 16
    head = head_of(config)
    assert sum(count(getattr(head, part)) for part in TRUNK_PARTS) == trunk


def test_modulations_are_the_share_that_tables_save() -> None:
    head = head_of(paper())
    ada = sum(p.numel() for n, p in head.named_parameters() if ".ada." in n)
    assert ada == 377_733_120


def test_the_papers_sequence_is_one_state_sixteen_actions_and_sixty_four_image_tokens() -> None:
    config = paper()
    assert (config.action_rows, config.vision_tokens, config.eagle.image_tokens) == (16, 64, 64)
    assert (config.mm_layers, config.tail_layers, config.width) == (12, 4, 1536)
    assert [i for i in range(12) if config.is_joint(i)] == [1, 3, 5, 7, 9, 11]
    assert [j for j in range(4) if config.tail_crosses(j)] == [0, 2]
    assert len(config.cross_layers()) == 16
    assert len(replace(config, conditioning=Conditioning.EVERY).cross_layers()) == 28


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_the_way_through_policy_yaml(name: str) -> None:
    config = preset(name)
    assert DustConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"heads": 0}, "heads=0"),
        ({"head_dim": 3, "heads": 2}, "heads\\*head_dim=6"),
        ({"mm_layers": 0, "tail_layers": 0}, "no network"),
        ({"grid": 3}, "grid=3"),
        ({"target_view": 2}, "target_view=2"),
        ({"layout": HeadLayout.SINGLE}, "layout=single"),
        ({"layout": HeadLayout.ACTION_ONLY}, "mm_layers=4"),
        ({"future_tokens": 4}, "future_tokens=4"),
        ({"action_rows": 99}, "action_rows=99"),
    ],
)
def test_impossible_sizes_are_refused_with_their_numbers(changes: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(tiny(), **changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"patch": 15}, "patches a side"),
        ({"vision_heads": 7}, "vision_heads=7"),
        ({"image_token": 600}, "image_token=600"),
    ],
)
def test_impossible_backbones_are_refused_with_their_numbers(changes: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(tiny().eagle, **changes)


def test_only_a_vision_stream_needs_a_width_for_two_axes() -> None:
    """GR00T-N1's head has no two-axis positions, and a head of 5 x 6 channels was refused."""
    config = replace(
        gr00t_n1(), heads=5, head_dim=6, tail_layers=3, hidden=18, embodiments=2, max_positions=20
    )
    assert DustHead(config).config.width == 30
    with pytest.raises(ValueError, match="heads\\*head_dim=30 must be a multiple of 4"):
        replace(tiny(), heads=5, head_dim=6)
    with pytest.raises(ValueError, match="heads\\*head_dim=15 must be a multiple of 2"):
        replace(config, head_dim=3)


@pytest.mark.parametrize("width", [24, 30, 1536])
def test_the_time_sinusoid_of_the_action_encoder_is_gr00t_n1s_to_the_last_bit(width: int) -> None:
    """Another order of the same operations moved it by 1.4e-5 at width 30: above what parity allows."""
    buckets = torch.arange(1000)
    step = torch.log(torch.tensor(10_000.0)) / (width // 2)
    phase = buckets[:, None] * (-torch.arange(width // 2, dtype=torch.float) * step).exp()
    assert torch.equal(sinusoid(buckets, width=width), torch.cat((phase.sin(), phase.cos()), dim=1))


def test_unknown_and_missing_keys_of_the_model_section_are_named() -> None:
    values = tiny().to_dict()
    with pytest.raises(ValueError, match="unknown keys \\['depth'\\]"):
        DustConfig.from_dict({**values, "depth": 3})
    with pytest.raises(ValueError, match="missing keys \\['hidden'\\]"):
        DustConfig.from_dict({k: v for k, v in values.items() if k != "hidden"})
    with pytest.raises(ValueError, match="eagle"):
        DustConfig.from_dict({**values, "eagle": {"width": 3}})
    with pytest.raises(ValueError, match="no preset 'huge'"):
        preset("huge")


def test_the_default_backbone_is_gr00t_n1s() -> None:
    eagle = EagleConfig()
    assert (eagle.side, eagle.image_tokens) == (16, 64)
