# SPDX-License-Identifier: Apache-2.0
"""Losses of joint training and of distillation (paper Eq. 5 to 7 and appendix D).

Shapes: B batch, C latent channels, F latent frames, h, w cells, H rows, K chunks, A numbers of a row.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from wam.models.layers.flow import loss_weight


class Losses(NamedTuple):
    """Scalars of one step.

    Attributes:
        total: what is minimised: action + video_weight * video (Eq. 7).
        video: L_v.
        action: L_a.
    """

    total: Tensor
    video: Tensor
    action: Tensor


def masked_mean(values: Tensor, is_pad: Tensor) -> Tensor:
    """Average over the last axis where `is_pad` is False; 0 where everything is padding."""
    valid = (~is_pad).to(values.dtype)
    return (values * valid).sum(-1) / valid.sum(-1).clamp(min=1)


def video_loss(
    velocity_BCFHW: Tensor, target_BCFHW: Tensor, t_B: Tensor, latent_is_pad_BF: Tensor, *, shift: float
) -> Tensor:
    """Return the weighted error of the future latent frames (L_v of Eq. 6).

    Frame 0 is given to the network clean and does not count.

    Args:
        velocity_BCFHW: predicted.
        target_BCFHW: noise minus data.
        t_B: network time of each sample.
        latent_is_pad_BF: frames past the end of the episode.
        shift: of the training noise levels; it fixes the scale of the weight.
    """
    error = (velocity_BCFHW.float() - target_BCFHW.float())[:, :, 1:].square().mean(dim=(1, 3, 4))
    per_sample = masked_mean(error, latent_is_pad_BF[:, 1:])
    return (per_sample * loss_weight(t_B, shift_factor=shift)).mean()


def action_loss(
    velocity_BHA: Tensor, target_BHA: Tensor, t_BK: Tensor, ignored_BH: Tensor, *, shift: float
) -> Tensor:
    """Return the weighted error of the action rows (L_a of Eq. 6).

    Args:
        velocity_BHA: predicted.
        target_BHA: noise minus data.
        t_BK: network time of each chunk.
        ignored_BH: rows past the end of the episode, and rows that were given.
        shift: of the training noise levels.
    """
    error = (velocity_BHA.float() - target_BHA.float()).square().mean(-1)
    rows = error.shape[1] // t_BK.shape[1]
    weight = loss_weight(t_BK, shift_factor=shift).repeat_interleave(rows, dim=1)
    return masked_mean(error * weight, ignored_BH).mean()


def endpoint_loss(x0_BHA: Tensor, target_BHA: Tensor, action_is_pad_BH: Tensor) -> Tensor:
    """Return the plain error between the student's and the teacher's final actions."""
    error = (x0_BHA.float() - target_BHA.float()).square().mean(-1)
    return masked_mean(error, action_is_pad_BH).mean()
