"""Roots of monotone functions, and what makes a law sum to 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

HALVINGS = 200
ROUNDING = 1e-15
"""Relative width of a bracket that is not halved again."""


def increasing_root(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Elementwise x in [low, high] with function(x) = 0, of a non-decreasing function; an end of the bracket where it
    has none.
    """
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = function(middle) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        if bool((high - low <= ROUNDING * (1 + middle.abs())).all()):
            break
    return (low + high) / 2


def normalised(law: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """[n] law(x) with the x in [low, high] at which it sums to 1, its sum being non-decreasing in x []."""
    return law(increasing_root(lambda x: law(x).sum() - 1, low, high))
