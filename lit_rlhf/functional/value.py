"""How much a critic knows of the returns."""

from __future__ import annotations

from torch import Tensor

from lit_rlhf.functional.segment import counted


def precise(values: Tensor) -> Tensor:
    """The values in double precision, where the device has it."""
    return values.float() if values.device.type == "mps" else values.double()


def spread(values: Tensor, weight: Tensor, mean: Tensor) -> Tensor:
    """[] sum_t w_t (x_t - mean)^2; what has weight 0 may be NaN."""
    return (weight * counted(values - mean, weight).square()).sum()


def explained_variance(
    values: Tensor, returns: Tensor, weight: Tensor, mean_return: Tensor, mean_error: Tensor
) -> tuple[Tensor, Tensor]:
    """[], [] numerator and denominator of 1 - Var(R - V) / Var(R), sums over the tokens given.

    The ratio is 1 of a perfect critic, 0 of a constant, negative of one that misleads. With the means of all tokens,
    numerators and denominators of parts add up to those of the whole.
    """
    total = spread(returns, weight, mean_return)
    return total - spread(returns - values, weight, mean_error), total
