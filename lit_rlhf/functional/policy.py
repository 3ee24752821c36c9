"""What policy losses make of a ratio and an advantage, per token: pure functions, in the letters of the papers.

r = pi/pi_old of a token (or of its whole sequence), A its advantage. Objectives are to be made large; heads sum them
with a minus sign.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rlhf.functional import exponential
from lit_rlhf.functional.segment import owner, segment_mean, segment_sum


def sequence_log_ratio(log_ratio: Tensor, lengths: Tensor, weight: Tensor, per_token: bool) -> Tensor:
    """[T] log of each token's sequence ratio pi(y)/pi_old(y), or of its power 1/|y|; `weight` 0 does not count."""
    whole = segment_mean(log_ratio, lengths, weight) if per_token else segment_sum(weight * log_ratio, lengths)
    return whole[owner(lengths)]


def by_sign(good: Tensor, positive: float, negative: float, like: Tensor) -> Tensor:
    """[T] one number where `good` [T], the other elsewhere, of the type of `like`."""
    return torch.where(good, like.new_tensor(positive), like.new_tensor(negative))


def clipped_surrogate(ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """min(r A, clip(r, 1 - low, 1 + high) A).

    "Proximal Policy Optimization Algorithms" by Schulman et al. (https://arxiv.org/abs/1707.06347), where low = high;
    the two differ in DAPO (https://arxiv.org/abs/2503.14476).
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def dual_clip(objective: Tensor, advantage: Tensor, dual: float) -> Tensor:
    """max(objective, c A) where A < 0, c = `dual` > 1: what a large ratio of a bad token can do is bounded.

    "Mastering Complex Control in MOBA Games with Deep Reinforcement Learning" by Ye et al.
    (https://arxiv.org/abs/1912.09729).
    """
    return torch.where(advantage < 0, torch.maximum(objective, dual * advantage), objective)


def soft_gate(ratio: Tensor, tau: Tensor | float) -> Tensor:
    """f(r) = 4/tau sigma(tau (r - 1)): its slope is 1 at r = 1 and falls off smoothly on both sides.

    "Soft Adaptive Policy Optimization" by Gao et al. (https://arxiv.org/abs/2511.20347).
    """
    return 4 / tau * torch.sigmoid(tau * (ratio - 1))


def gamma_weight(log_ratio: Tensor, k: Tensor | float, rate: Tensor | float) -> Tensor:
    """phi(w) = w^k e^{lambda (1 - w)}, lambda = `rate` and w = e^`log_ratio`: 1 at w = 1, greatest at k / lambda.

    "VESPO: Variational Sequence-Level Soft Policy Optimization for Stable Off-Policy LLM Training" by Shen et al.
    (https://arxiv.org/abs/2602.10693).
    """
    return torch.exp(k * log_ratio + rate * (1 - exponential.exp(log_ratio)))


def truncated_importance(log_ratio: Tensor, largest: float) -> Tensor:
    """min(r, `largest`), without gradient.

    "IMPALA: Scalable Distributed Deep-RL with Importance Weighted Actor-Learner Architectures" by Espeholt et al.
    (https://arxiv.org/abs/1802.01561), whose rho-bar it is.
    """
    return exponential.exp(log_ratio.detach()).clamp_max(largest)
