"""How much a critic knows of the returns."""

from __future__ import annotations

from torch import Tensor

from lit_rlhf.functional.segment import counted


def spread(values: Tensor, weight: Tensor, mean: Tensor) -> Tensor:
    """[] sum_t w_t (x_t - mean)^2; what has weight 0 may be NaN."""
    return (weight * counted(values - mean, weight).square()).sum()


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """[] sum_t w_t x_t / sum_t w_t; 0 where all weights are 0."""
    mass = weight.sum()
    return (weight * counted(values, weight)).sum() / mass.where(mass > 0, mass.new_ones(()))


def explained_variance(values: Tensor, returns: Tensor, weight: Tensor) -> Tensor:
    """[] 1 - Var(R - V) / Var(R): 1 of a perfect critic, 0 of a constant, negative of one that misleads.

    NaN where the returns do not vary.
    """
    error = returns - values
    unexplained = spread(error, weight, weighted_mean(error, weight))
    return 1 - unexplained / spread(returns, weight, weighted_mean(returns, weight))
