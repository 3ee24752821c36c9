"""Metrics that heads return beside their terms, as sums without gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rlhf.functional.segment import counted
from lit_rlhf.losses.base import Metric


@torch.no_grad()
def mean(name: str, values: Tensor, weight: Tensor) -> Metric:
    """The weighted mean of `values` [n] in the making; values of weight 0 may be NaN."""
    return Metric(name, (counted(values.detach(), weight) * weight).sum(), weight.sum())


@torch.no_grad()
def of_pairs(chosen: Tensor, rejected: Tensor, probability: Tensor, weight: Tensor) -> tuple[Metric, ...]:
    """Rewards of the ends, their margin, and how often the preferred end has the higher one.

    `accuracy` counts equal rewards as one half, and leaves out pairs of probability 1/2, which have no preferred end.
    """
    preferred = torch.sign(probability - 0.5)
    right = (1 + torch.sign(chosen - rejected) * preferred) / 2
    return (
        mean("rewards/chosen", chosen, weight),
        mean("rewards/rejected", rejected, weight),
        mean("rewards/margin", chosen - rejected, weight),
        mean("accuracy", right, weight * preferred.abs()),
    )


@torch.no_grad()
def of_rewards(implicit: Tensor, reward: Tensor, weight: Tensor) -> tuple[Metric, ...]:
    """The implicit reward and the given one."""
    return mean("rewards/implicit", implicit, weight), mean("rewards/given", reward, weight)
