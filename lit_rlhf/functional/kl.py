"""Estimators of KL(pi || u) from samples of pi, per token or per completion."""

from __future__ import annotations

from torch import Tensor

from lit_rlhf.functional import exponential


def k1(policy: Tensor, reference: Tensor) -> Tensor:
    """log(pi / u): unbiased; as a differentiated loss its expected gradient is 0."""
    return policy - reference


def k2(policy: Tensor, reference: Tensor) -> Tensor:
    """log(pi / u)^2 / 2: its expected gradient is that of KL(pi || u).

    See "Approximating KL Divergence" by Schulman (http://joschu.net/blog/kl-approx.html).
    """
    return (policy - reference).square() / 2


def k3(policy: Tensor, reference: Tensor) -> Tensor:
    """u / pi - 1 - log(u / pi): unbiased and never negative; its expected gradient is that of KL(u || pi).

    u / pi is exact up to e^30 and grows linearly beyond.
    """
    back = reference - policy
    return exponential.expm1(back) - back
