"""How far a policy is from its Boltzmann target, from samples of the policy alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.functional.segment import logsumexp_by, mean_by, sum_by


@dataclass(frozen=True)
class TargetGauge:
    """Estimates of KL(pi || pi^tau) in nats for each of N prompts, from the samples that it has. NaN where it has one or none."""

    second_order: Tensor
    """[N] Var(g) / (2 tau^2) with K - 1: an unbiased estimate of kappa_2 / 2, which is the KL up to -kappa_3 / 6."""
    exponential: Tensor
    """[N] log mean_k e^{-(g_k - mean g)/tau}: exact as K grows, biased down before, the more the larger the KL."""
    effective: Tensor
    """[N] (sum w)^2 / sum w^2 of the weights w = e^{-g/tau}: how many samples the exponential really rests on."""
    size: Tensor
    """[N] K"""


@torch.no_grad()
def target_gauge(error: Tensor, group: Tensor, count: int) -> TargetGauge:
    """Of errors x = log(pi/u) - r/tau, that is g/tau, of samples y ~ pi; a constant of each prompt drops out.

    KL(pi || pi^tau) = log E e^{-(x - E x)} = kappa_2/2 - kappa_3/6 + ..., kappa the cumulants of x (theory: eq. 4).

    Args:
        error: [n] in nats.
        group: [n] the prompt of each sample, in 0..count-1.
        count: N
    """
    error = error.double()
    size = sum_by(torch.ones_like(error), group, count)
    centred = error - mean_by(error, group, count)[group]
    several = size > 1
    variance = sum_by(centred.square(), group, count) / (size - 1).clamp_min(1.0)
    exponential = logsumexp_by(-centred, group, count) - size.clamp_min(1.0).log()
    effective = torch.exp(2 * logsumexp_by(-centred, group, count) - logsumexp_by(-2 * centred, group, count))
    known = [torch.where(several, value, torch.nan) for value in (variance / 2, exponential, effective)]
    return TargetGauge(*known, size)
