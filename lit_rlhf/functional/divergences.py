"""The score f'(w) of an f-divergence at w = pi / u, by its logarithm: what takes the place of log w in f-DPO.

Constants that differences of scores lose are left out. Powers of w are exact up to e^30 and grow linearly beyond.

See "Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence Constraints" by Wang et al.
(https://arxiv.org/abs/2309.16240).
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_rlhf.functional import exponential


def reverse_kl(log_ratio: Tensor) -> Tensor:
    """log w."""
    return log_ratio


def forward_kl(log_ratio: Tensor) -> Tensor:
    """-1 / w."""
    return -exponential.exp(-log_ratio)


def jensen_shannon(log_ratio: Tensor) -> Tensor:
    """log(2 w / (1 + w))."""
    return math.log(2.0) + logsigmoid(log_ratio)


def alpha_divergence(log_ratio: Tensor, alpha: float) -> Tensor:
    """(1 - w^-alpha) / alpha, with alpha in (0, 1); alpha -> 0 is reverse KL."""
    return -exponential.expm1(-alpha * log_ratio) / alpha
