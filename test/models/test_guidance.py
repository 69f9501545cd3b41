# SPDX-License-Identifier: Apache-2.0
"""Guidance of a flow towards committed rows, on a flow whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from wam.models.layers.flow import integrate, sigma_grid
from wam.models.layers.guidance import guidance_weight, guided, prefix_weights

ROWS, STEPS = 8, 10
SIGMAS = sigma_grid(STEPS, shift_factor=1.0)


def gaussian_flow(mean_R: Tensor, covariance_RR: Tensor) -> object:
    """Return the exact velocity of a flow whose data are normal, for rows of one value: v = E[eps - x_0 | x]."""
    identity = torch.eye(len(mean_R))

    def velocity(x_BRA: Tensor, i: int) -> Tensor:
        sigma = max(SIGMAS[i], 1e-3)
        total = (1 - sigma) ** 2 * covariance_RR + sigma**2 * identity
        gain = torch.linalg.solve(total, (1 - sigma) * covariance_RR).T
        centred = x_BRA[0, :, 0] - (1 - sigma) * mean_R
        x0 = mean_R + gain @ centred
        return ((x_BRA[0, :, 0] - x0) / sigma)[None, :, None]

    return velocity


def smooth_covariance(scale: float) -> Tensor:
    place = torch.arange(ROWS, dtype=torch.float32)
    return torch.exp(-0.5 * ((place[:, None] - place[None]) / scale) ** 2) + 1e-3 * torch.eye(ROWS)


def test_committed_rows_are_kept_and_the_rest_follows_them_smoothly() -> None:
    """Rows that hang together: where the first three are held at 2, the next ones must come from there."""
    velocity = gaussian_flow(torch.zeros(ROWS), smooth_covariance(3.0))
    noise = torch.randn(1, ROWS, 1, generator=torch.Generator().manual_seed(1))
    free = integrate(velocity, noise, sigmas=SIGMAS)[0, :, 0]
    target = torch.full((1, ROWS, 1), 2.0)
    weights = prefix_weights(ROWS, fixed=3, covered=3)
    field = guided(velocity, sigmas=SIGMAS, target_BRA=target, weights_R=weights, limit=5.0)
    held = integrate(field, noise, sigmas=SIGMAS)[0, :, 0]
    assert float((free[:3] - 2.0).abs().max()) > 1.0
    assert float((held[:3] - 2.0).abs().max()) < 0.25
    assert float((held[3] - held[2]).abs()) < 0.6
    # Row 7 is nearly independent of the committed ones and stays nearly where it was.
    assert float((held[7] - free[7]).abs()) < float((held[3] - free[3]).abs())


def test_without_committed_rows_a_guided_sample_is_the_plain_one() -> None:
    velocity = gaussian_flow(torch.ones(ROWS), smooth_covariance(2.0))
    noise = torch.randn(1, ROWS, 1, generator=torch.Generator().manual_seed(2))
    weights = prefix_weights(ROWS, fixed=0, covered=0)
    field = guided(velocity, sigmas=SIGMAS, target_BRA=torch.zeros(1, ROWS, 1), weights_R=weights)
    torch.testing.assert_close(
        integrate(field, noise, sigmas=SIGMAS), integrate(velocity, noise, sigmas=SIGMAS)
    )


def test_weights_are_full_until_the_take_over_and_fall_to_the_end_of_the_last_chunk() -> None:
    weights = prefix_weights(ROWS, fixed=2, covered=6).numpy()
    np.testing.assert_allclose(weights[:2], 1.0)
    np.testing.assert_allclose(weights[6:], 0.0)
    assert np.all(np.diff(weights[1:7]) < 0)
    # Eq. 5 at its first row: c = 4/5.
    assert weights[2] == pytest.approx(0.8 * (np.exp(0.8) - 1) / (np.e - 1))
    assert prefix_weights(4, fixed=9, covered=7).tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("sigma", "expected"), [(1.0, 5.0), (0.0, 5.0), (0.5, 2.0), (0.9, 5.0), (0.7, 0.58 / 0.21)]
)
def test_the_weight_of_the_guidance_is_that_of_the_paper(sigma: float, expected: float) -> None:
    assert guidance_weight(sigma, limit=5.0) == pytest.approx(expected)
