"""The score f'(w) of an f-divergence at w = pi / u, by its logarithm: what takes the place of log w in f-DPO.

See "Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence Constraints" by Wang et al.
(https://arxiv.org/abs/2309.16240).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def reverse_kl(log_ratio: Tensor) -> Tensor:
    """log w."""
    return log_ratio


def forward_kl(log_ratio: Tensor) -> Tensor:
    """-1 / w."""
    return -torch.exp(-log_ratio)


def jensen_shannon(log_ratio: Tensor) -> Tensor:
    """log(2 w / (1 + w))."""
    return math.log(2.0) + torch.nn.functional.logsigmoid(log_ratio)


def alpha_divergence(log_ratio: Tensor, alpha: float) -> Tensor:
    """(1 - w^-alpha) / alpha, with alpha in (0, 1); alpha -> 0 is reverse KL."""
    return -torch.expm1(-alpha * log_ratio) / alpha
