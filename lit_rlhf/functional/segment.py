"""Sums, means and softmaxes over the segments of a ragged tensor: `values` [T] split by `lengths` [S]."""

from __future__ import annotations

import torch
from torch import Tensor


def owner(lengths: Tensor) -> Tensor:
    """[T] the index of the segment that each entry belongs to."""
    return torch.repeat_interleave(lengths)


def counted(values: Tensor, weight: Tensor) -> Tensor:
    """`values`, and 0 where the `weight` is 0: what does not count cannot leak, neither NaN nor its gradient."""
    return torch.where(weight == 0, 0.0, values)


def sum_by(values: Tensor, index: Tensor, count: int) -> Tensor:
    """[count] the sum of the `values` [n] whose `index` [n] is each of 0..count-1."""
    return values.new_zeros(count).index_add(0, index, values)


def segment_sum(values: Tensor, lengths: Tensor) -> Tensor:
    """[S] sum_t values_t of each segment."""
    return sum_by(values, owner(lengths), len(lengths))


def segment_mean(values: Tensor, lengths: Tensor, weight: Tensor | None = None) -> Tensor:
    """[S] sum_t w_t values_t / sum_t w_t of each segment; 0 where all weights are 0."""
    weight = torch.ones_like(values) if weight is None else weight.to(values.dtype)
    total, mass = segment_sum(counted(values, weight) * weight, lengths), segment_sum(weight, lengths)
    return torch.where(mass > 0, total / torch.where(mass > 0, mass, 1.0), 0.0)


def mean_by(values: Tensor, index: Tensor, count: int) -> Tensor:
    """[count] the mean of the `values` [n] of each index; 0 where an index has none."""
    number = sum_by(torch.ones_like(values), index, count)
    return sum_by(values, index, count) / number.clamp_min(1.0)


def logsumexp_by(values: Tensor, index: Tensor, count: int) -> Tensor:
    """[count] log sum exp of the `values` [n] of each index; -inf where an index has none."""
    largest = values.detach().new_full((count,), -torch.inf).scatter_reduce(0, index, values.detach(), "amax")
    shift = torch.where(largest.isfinite(), largest, 0.0)
    return sum_by((values - shift[index]).exp(), index, count).log() + shift


def log_softmax_by(values: Tensor, index: Tensor, count: int) -> Tensor:
    """[n] log-softmax of the `values` [n] within each index."""
    return values - logsumexp_by(values, index, count)[index]
