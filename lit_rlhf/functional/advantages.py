"""Advantages and returns of ragged sequences: time runs within each of the S segments of a [T] tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rlhf.functional import udrra
from lit_rlhf.functional.segment import mean_by, owner, segment_sum
from lit_rlhf.functional.value import precise


def due_at_end(reward: Tensor, lengths: Tensor, token_reward: Tensor | None = None) -> Tensor:
    """[T] r_t: the `token_reward` [T], and each sequence's `reward` [S] at its last token; an empty one has none."""
    last, some = lengths.cumsum(0) - 1, lengths > 0
    total = reward.new_zeros(int(lengths.sum())) if token_reward is None else token_reward
    return total.index_add(0, last[some], reward[some].to(total.dtype))


def remaining(lengths: Tensor) -> Tensor:
    """[T] number of tokens that follow in the same sequence."""
    return lengths.cumsum(0)[owner(lengths)] - 1 - torch.arange(int(lengths.sum()), device=lengths.device)


def discounted_sums(values: Tensor, lengths: Tensor, factor: float) -> Tensor:
    """[T] sum_l factor^l values_{t+l} to the end of each sequence, in log2(longest) passes over all tokens.

    After a pass the sums reach twice as far: x_t <- x_t + factor^n x_{t+n} for n = 1, 2, 4, ...
    """
    left, reach, total = remaining(lengths), 1, values
    while reach < len(values) and bool((left >= reach).any()):
        ahead = torch.cat([total[reach:], total.new_zeros(reach)])
        total = total + factor**reach * torch.where(left >= reach, ahead, 0.0)
        reach *= 2
    return total


def reward_to_go(rewards: Tensor, lengths: Tensor, gamma: float = 1.0) -> Tensor:
    """[T] R_t = sum_l gamma^l r_{t+l}."""
    return discounted_sums(rewards, lengths, gamma)


def gae(
    rewards: Tensor, values: Tensor, lengths: Tensor, gamma: float, lam: float, bootstrap: Tensor | None = None
) -> Tensor:
    """[T] A_t = sum_l (gamma lam)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t.

    See "High-Dimensional Continuous Control Using Generalized Advantage Estimation" by Schulman et al.
    (https://arxiv.org/abs/1506.02438), equation 16.

    Args:
        rewards: [T] r_t, received for token t.
        values: [T] V_t, before token t.
        lengths: [S]
        gamma: discount of a token.
        lam: 0 is the error of one step, 1 the reward to go less V.
        bootstrap: [S] V after the last token; None is 0.
    """
    following = torch.cat([values[1:], values.new_zeros(1)])[: len(values)]
    after = values.new_zeros(len(lengths)) if bootstrap is None else bootstrap.to(values.dtype)
    following = torch.where(remaining(lengths) > 0, following, after[owner(lengths)])
    return discounted_sums(rewards + gamma * following - values, lengths, gamma * lam)


def leave_one_out(values: Tensor, group: Tensor, count: int) -> Tensor:
    """[n] v_k less the mean of the other values of its group, in double precision inside: equal values give 0."""
    return udrra.leave_one_out(precise(values), group, count).to(values.dtype)


def group_relative(values: Tensor, group: Tensor, count: int, epsilon: float | None = 1e-6) -> Tensor:
    """[n] (v_k - mean) / (std + epsilon) over its group, std with K; None leaves the division out.

    In double precision inside: equal values give 0, and not rounding over epsilon.
    """
    centred = precise(values) - mean_by(precise(values), group, count)[group]
    if epsilon is not None:
        centred = centred / (mean_by(centred.square(), group, count).sqrt()[group] + epsilon)
    return centred.to(values.dtype)


def win_rates(reward: Tensor, group: Tensor, other: Tensor, other_group: Tensor, count: int, scale: float) -> Tensor:
    """[n] mean_m sigma((r - r'_m) / scale) over the `other` [m] rewards of the same group; NaN where there are none."""
    order = other_group.argsort(stable=True)
    sizes = torch.bincount(other_group, minlength=count)
    faced = sizes[group]
    starts = torch.repeat_interleave((sizes.cumsum(0) - sizes)[group] - (faced.cumsum(0) - faced), faced)
    against = order[starts + torch.arange(len(starts), device=order.device)]
    wins = torch.sigmoid((reward[owner(faced)] - other[against]) / scale)
    return segment_sum(wins, faced) / faced
