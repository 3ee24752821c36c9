"""The implicit reward, and what the families make of it."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rlhf.functional.segment import counted, logsumexp_by, mean_by, segment_mean, segment_sum, sum_by


def implicit_reward(policy: Tensor, reference: Tensor | None, tau: Tensor | float) -> Tensor:
    """tau * log(pi / u), elementwise: the one place of the project that forms it.

    Args:
        policy: log pi in nats, of tokens or of whole completions.
        reference: log u of the same shape; None is the prior form, u = 1.
        tau: temperature.
    """
    return tau * (policy if reference is None else policy - reference)


def over_completions(values: Tensor, weight: Tensor, lengths: Tensor, reduce: str) -> Tensor:
    """[S] the weighted `sum` or `mean` of `values` [T] over each completion's tokens; those of weight 0 may be NaN."""
    if reduce == "sum":
        return segment_sum(counted(values, weight) * weight, lengths)
    return segment_mean(values, lengths, weight)


def enumerated_partition(log_base: Tensor, reward: Tensor, group: Tensor, count: int, tau: Tensor | float) -> Tensor:
    """[N] V* = tau log sum_y u(y) e^{r(y)/tau}, where the group [S] holds every response of each prompt."""
    return tau * logsumexp_by(log_base + reward / tau, group, count)


def sampled_partition(reward: Tensor, group: Tensor, count: int, tau: Tensor | float) -> Tensor:
    """[N] tau log mean_k e^{r_k/tau} over the group's responses, drawn from u: biased down by sampling."""
    size = sum_by(torch.ones_like(reward), group, count)
    return tau * (logsumexp_by(reward / tau, group, count) - size.clamp_min(1.0).log())


def quantile_rewards(reward: Tensor, group: Tensor) -> Tensor:
    """[S] the share of a prompt's responses that are worse, ties counted half: uniform on [0, 1] under their law."""
    same = group[:, None] == group[None, :]
    below = (reward[None, :] < reward[:, None]).to(reward.dtype)
    equal = (reward[None, :] == reward[:, None]).to(reward.dtype)
    return ((below + equal / 2) * same).sum(1) / same.sum(1)


def quantile_partition(tau: Tensor | float) -> Tensor:
    """[] tau log int_0^1 e^{q/tau} dq = tau (log tau + log(e^{1/tau} - 1)), the partition function of uniform rewards.

    See "Quantile Reward Policy Optimization" by Matrenok et al. (https://arxiv.org/abs/2507.08068).
    """
    tau = torch.as_tensor(tau, dtype=torch.float64)
    return tau * (tau.log() + 1 / tau + torch.log(-torch.expm1(-1 / tau)))


def leave_one_out(values: Tensor, group: Tensor, count: int) -> Tensor:
    """[S] v_k - mean of the other values of the group; 0 for a group of one."""
    size = sum_by(torch.ones_like(values), group, count)[group]
    return (values - mean_by(values, group, count)[group]) * size / (size - 1).clamp_min(1.0)
