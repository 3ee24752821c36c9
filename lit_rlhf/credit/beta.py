"""BNPO's advantages: a Beta density of success rates in the place of the standard deviation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lit_rlhf.credit.base import Credited, CreditStep
from lit_rlhf.credit.counting import constant_over_tokens, own, refuse_single_samples, totals
from lit_rlhf.credit.statistics import moments
from lit_rlhf.errors import InputError
from lit_rlhf.functional.segment import mean_by, sum_by
from lit_rlhf.losses.base import Metric
from lit_rlhf.types import Rollout


@dataclass(frozen=True)
class BetaNormalised(CreditStep):
    """A = (R - p) / f(p; alpha, beta), R = (r - least) / (greatest - least), p the mean R of the prompt's group.

    f is the density of Beta(alpha, beta), alpha = 1 + a/3 and beta = 1 + b/3, neither below 1, with Beta(a, b) fitted
    by its first two moments to the p of all groups on all ranks. At alpha = beta = 1 there is no division, and at 3/2 it
    is, for rewards that are right or wrong, GRPO's by the standard deviation up to a number. See "BNPO: Beta Normalization
    Policy Optimization" by Xiao et al. (https://arxiv.org/abs/2506.02864). Metrics: `beta_alpha` and `beta_beta`.

    Args:
        least: the smallest reward there is; a smaller one counts as this.
        greatest: the greatest one.
        largest: bound of 1/f, which has none near p = 0 and 1.

    Raises:
        InputError: `greatest` is not above `least`, or `largest` not above 0.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"group"})
    gives: ClassVar[frozenset[str]] = frozenset({"advantages"})

    least: float = 0.0
    greatest: float = 1.0
    largest: float = 1e6

    def __post_init__(self) -> None:
        if not self.greatest > self.least or not self.largest > 0:
            raise InputError(
                f"BetaNormalised(least={self.least}, greatest={self.greatest}, largest={self.largest}): greatest is "
                "above least, and largest above 0"
            )

    def __call__(self, rollout: Rollout) -> Credited:
        refuse_single_samples(rollout, self)
        rows, count = own(rollout).nonzero()[:, 0], len(rollout.sequences.prompt_lengths)
        share = ((totals(rollout) - self.least) / (self.greatest - self.least)).clamp(0, 1)
        group = rollout.sequences.prompt_of[rows]
        rate = mean_by(share[rows], group, count)
        alpha, beta = fitted(rate, sum_by(torch.ones_like(share[rows]), group, count) > 0)
        density = torch.distributions.Beta(alpha, beta, validate_args=False).log_prob(rate.double()).exp()
        scale = (1 / density).clamp(max=self.largest).to(share)[group]
        found = torch.zeros_like(share).index_copy(0, rows, scale * (share[rows] - rate[group]))
        one = alpha.new_ones(())
        metrics = (Metric("beta_alpha", alpha, one), Metric("beta_beta", beta, one))
        return Credited(dataclasses.replace(rollout, advantages=constant_over_tokens(rollout, found)), metrics)


def fitted(rate: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """[], [] alpha and beta for success rates [N] of the groups that count, over all ranks."""
    found = moments(rate, counts.to(rate))
    spread = found.variance * found.weight / (found.weight - 1).clamp_min(1.0)
    both = (found.mean * (1 - found.mean) / spread.clamp_min(1e-12) - 1).clamp_min(0.0)
    return 1 + both * found.mean / 3, 1 + both * (1 - found.mean) / 3
