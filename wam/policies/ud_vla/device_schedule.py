# SPDX-License-Identifier: Apache-2.0
"""JD3P's schedule on the device: what `jd3p.decode` decides step by step, without a look at values.

`decode` reads the device five times a step: where an EOA stands, which sites are unknown, how many, which scores are
cut off. Here every step has the same shapes and never waits for the device, so that it can be captured. All sites are
drawn, and those that are known keep their ids. The steps and their results are those of `decode` with the same draws.

Shapes: G generated sites, I image sites, D width, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wam.models.backends.plan import BackendPlan
from wam.models.backends.stage import PolicyPart, StageInputs, StageSpec
from wam.policies.ud_vla.jd3p import Decoded, Evaluate, Heads, Jd3pSettings, UnmaskRule
from wam.policies.ud_vla.sampling import Drawn, SiteDraws, invert
from wam.policies.ud_vla.sequence import SequenceLayout

LOOK_EVERY = 8
"""Steps between two looks at whether anything is still unknown; the paper's rule is often done early."""

KEPT, MASKED, TEMPERATURE = range(3)
"""Columns of the numbers of a step."""


def step_numbers(settings: Jd3pSettings, *, device: torch.device | str) -> Tensor:
    """Return what the steps differ in, float64 [T, 3].

    The share of the unknown sites that the paper's rule keeps, the share of all sites that the released rule leaves
    masked (a float32 number, as released), and the temperature of the confidence noise.
    """
    steps, rows, temperature = settings.steps, [], settings.temperature
    ratio = torch.tensor([s / steps for s in range(1, steps + 1)], dtype=torch.float32)
    masked = torch.cos(ratio * math.pi * 0.5).tolist()
    for step in range(steps):
        kept = 1.0 if step == steps - 1 else 1.0 - math.cos(math.pi / 2 * (step + 1) / (steps + 1))
        temperature *= 1.0 - (step + 1) / steps
        rows.append([kept, masked[step], temperature])
    return torch.tensor(rows, dtype=torch.float64, device=device)


class UnmaskStage:
    """One step behind the decoder's pass.

    Args:
        heads: allowed ids.
        layout: of the sequence.
        rule: how many sites a step keeps, and which.
        freeze: as `Jd3pSettings.freeze`.
    """

    def __init__(self, heads: Heads, layout: SequenceLayout, *, rule: UnmaskRule, freeze: bool) -> None:
        self._heads, self._tokens, self._image_len = heads, layout.tokens, layout.image_len
        self._rule, self._freeze = rule, freeze

    def __call__(
        self, state_G: Tensor, rows_GD: Tensor, uniform_G: Tensor, gumbel_G: Tensor, numbers_3: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw, keep the surest.

        Args:
            state_G: int64, ids so far; MASK where a site is unknown.
            rows_GD: of the decoder.
            uniform_G: float32, one number per site in [0, 1).
            gumbel_G: float32, confidence noise.
            numbers_3: of the step, see `step_numbers`.

        Returns:
            What was drawn, the next state, and the next state as the decoder is to be given it; int64 [G] each.
        """
        frozen = self.frozen(state_G)
        active = state_G == self._tokens.mask
        if self._freeze:
            active = active & ~frozen
        drawn, score = self._draw(rows_GD, uniform_G)
        drawn = torch.where(active, drawn, state_G)
        if self._rule is UnmaskRule.PAPER:
            state = self._kept_by_paper(state_G, drawn, active, score, numbers_3)
            drawn = state
        else:
            budget = (~frozen).sum() if self._freeze else torch.ones_like(frozen).sum()
            noisy = score + numbers_3[TEMPERATURE].float() * gumbel_G
            wanted = (budget.float() * numbers_3[MASKED].float()).floor().long()
            state = self._kept_as_released(drawn, active, noisy, wanted)
        return drawn, state, self.given(state)

    def frozen(self, state_G: Tensor) -> Tensor:
        """Return which sites lie behind the first EOA of the action block, bool [G]."""
        ends = (state_G[self._image_len :] == self._tokens.eoa).long()
        behind = (ends.cumsum(0) - ends) > 0
        return torch.cat((torch.zeros_like(state_G[: self._image_len], dtype=torch.bool), behind))

    def given(self, state_G: Tensor) -> Tensor:
        """Return the state with MASK behind the first EOA; where sites are frozen it is the state itself."""
        return torch.where(self.frozen(state_G), self._tokens.mask, state_G)

    def _draw(self, rows_GD: Tensor, uniform_G: Tensor) -> tuple[Tensor, Tensor]:
        ids, scores = [], []
        for head, part in (
            (self._heads.image, slice(None, self._image_len)),
            (self._heads.action, slice(self._image_len, None)),
        ):
            drawn: Drawn = invert(head(rows_GD[part]), uniform_G[part])
            ids.append(head.vocabulary[drawn.columns])
            scores.append(drawn.max_p if self._rule is UnmaskRule.PAPER else drawn.log_p)
        return torch.cat(ids), torch.cat(scores)

    def _kept_by_paper(
        self, state_G: Tensor, drawn_G: Tensor, active_G: Tensor, score_G: Tensor, numbers_3: Tensor
    ) -> Tensor:
        masked = active_G.sum()
        keep = torch.minimum((numbers_3[KEPT] * masked + 1e-9).floor().clamp(min=1).long(), masked)
        order = torch.where(active_G, score_G, -torch.inf).sort(descending=True, stable=True).indices
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return torch.where(active_G & (rank < keep), drawn_G, state_G)

    def _kept_as_released(self, drawn_G: Tensor, active_G: Tensor, noisy_G: Tensor, wanted: Tensor) -> Tensor:
        masked = torch.minimum(active_G.sum() - 1, wanted).clamp(min=1)
        noisy = torch.where(active_G, noisy_G, torch.inf)
        ordered = torch.cat((noisy, torch.full_like(noisy[:1], torch.inf))).sort().values
        # `ordered[masked]` would read the device.
        cut = ordered.gather(0, masked[None])
        return torch.where(active_G & (noisy < cut), self._tokens.mask, drawn_G)


class DeviceSchedule:
    """JD3P with its schedule on the device.

    Args:
        heads: allowed ids.
        layout: of the sequence.
        width: D of the rows.
        dtype: of the rows.
        plan: what runs the stage `unmask`.
        settings: of the sampler.
    """

    def __init__(
        self,
        heads: Heads,
        *,
        layout: SequenceLayout,
        width: int,
        dtype: torch.dtype,
        plan: BackendPlan,
        settings: Jd3pSettings,
    ) -> None:
        self._layout = layout
        self._device = heads.image.vocabulary.device
        self.configure(settings)
        self._stage = UnmaskStage(heads, layout, rule=settings.rule, freeze=settings.freeze)

        def examples() -> list[StageInputs]:
            sites = layout.generated_len
            rows = torch.zeros(sites, width, dtype=dtype, device=self._device)
            half = torch.full((sites,), 0.5, device=self._device)
            return [StageInputs.of(layout.start.to(self._device), rows, half, half, self._numbers[0])]

        self._unmask: Callable[..., tuple[Tensor, Tensor, Tensor]] = plan.prepare(
            StageSpec("unmask", PolicyPart.EXECUTOR, self._stage, examples)
        )

    def configure(self, settings: Jd3pSettings) -> None:
        """Take other steps, seed or temperature; rule and freezing are those of the stage, and must not change."""
        self._settings = settings
        self._numbers = step_numbers(settings, device=self._device)

    @torch.inference_mode()
    def decode(self, evaluate: Evaluate, draws: SiteDraws) -> Decoded:
        """Denoise one chunk; see `jd3p.decode`."""
        state = self._layout.start.to(self._device)
        given = drawn = state
        evaluations = 0
        for step in range(self._settings.steps):
            rows = evaluate(given)
            evaluations += 1
            drawn, state, given = self._unmask(
                state, rows, draws.uniform[step], draws.gumbels[step], self._numbers[step]
            )
            if (step + 1) % LOOK_EVERY == 0 and not self._unknown(state):
                drawn = state
                break
        return Decoded(self._stage.given(drawn) if self._settings.freeze else drawn, evaluations)

    def _unknown(self, state_G: Tensor) -> bool:
        """Return whether a site is still to be drawn; reads the device."""
        unknown = state_G == self._layout.tokens.mask
        if self._settings.freeze:
            unknown = unknown & ~self._stage.frozen(state_G)
        return bool(unknown.any())
