"""Weighted moments over all ranks, in double precision."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lit_rlhf.functional.segment import counted
from lit_rlhf.functional.value import precise, spread
from lit_rlhf.ranks import sum_over_ranks


class Moments(NamedTuple):
    """Of weighted values on all ranks; 0 where nothing has weight."""

    mean: Tensor
    """[]"""
    variance: Tensor
    """[] divided by the sum of the weights."""
    weight: Tensor
    """[] their sum."""


@torch.no_grad()
def moments(values: Tensor, weight: Tensor) -> Moments:
    """The moments of `values` [n] over every rank's n; all ranks must ask. Values of weight 0 may be NaN."""
    weight = precise(weight)
    values = counted(precise(values), weight)
    total, mass = sum_over_ranks(torch.stack([(weight * values).sum(), weight.sum()])).unbind()
    safe = torch.where(mass > 0, mass, 1.0)
    mean = total / safe
    return Moments(mean, sum_over_ranks(spread(values, weight, mean)) / safe, mass)
