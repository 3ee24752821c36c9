"""Forms for one pair whose first response wins with probability p: the margin h at the minimum, and the law it makes.

h is tau times a difference of log-ratios log(pi/u), or of their means over tokens. DPO's margin is logit p = r_1 - r_2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lit_rlhf.theory.closed_forms.solving import increasing_root


def pair_law(margin: float, tau: float, log_base: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
    """[2] pi with tau [log(pi/u)_1 / l_1 - log(pi/u)_2 / l_2] = h.

    Args:
        margin: h.
        tau: temperature.
        log_base: [2] log u; None is u = 1.
        lengths: [2] l, tokens of each where log-ratios are averaged over them; None is 1, where they are added.
    """
    base = torch.zeros(2, dtype=torch.float64) if log_base is None else log_base
    scale = torch.ones_like(base) if lengths is None else lengths.to(base.dtype)

    def law(logit: Tensor) -> Tensor:
        return torch.stack([logit, torch.zeros_like(logit)]).log_softmax(-1)

    def apart(logit: Tensor) -> Tensor:
        first, second = (law(logit) - base) / scale
        return tau * (first - second) - margin

    wide = torch.tensor(700.0, dtype=base.dtype)
    return law(increasing_root(apart, -wide, wide)).exp()


def smoothed(p: float, eps: float) -> float:
    """logit((1 - 2 eps) p + eps): cDPO; log((1 - eps)/eps) where p = 1."""
    q = (1 - 2 * eps) * p + eps
    return math.log(q / (1 - q))


def exo_hard(p: float, eps: float) -> float:
    """(2 p - 1) log((1 - eps)/eps): EXO with drawn labels smoothed by eps (https://arxiv.org/abs/2402.00856).

    With soft labels it is logit p.
    """
    return (2 * p - 1) * math.log((1 - eps) / eps)


def hinge(p: float) -> float:
    """1, or -1 where p < 1/2: SLiC sees the direction of a preference only (https://arxiv.org/abs/2305.10425)."""
    return math.copysign(1.0, p - 0.5)


def ipo(p: float) -> float:
    """p - 1/2 for h = tau log-ratios: IPO (https://arxiv.org/abs/2310.12036); (2 p - 1)/(2 tau) in log-ratios."""
    return p - 0.5


def simpo(p: float, margin: float) -> float:
    """log E, E = [(2p - 1) G + sqrt((2p - 1)^2 G^2 + 4 p (1 - p))] / (2 (1 - p)), G = e^gamma: SimPO
    (https://arxiv.org/abs/2405.14734).

    h is of means over tokens. At gamma = 0 it is logit p.
    """
    pull, both = (2 * p - 1) * math.exp(margin), p * (1 - p)
    return math.log((pull + math.sqrt(pull**2 + 4 * both)) / (2 * (1 - p)))


def offset(p: float, gap: float, scale: float = 1.0) -> float:
    """logit p + scale * gap: ODPO with a linear offset (https://arxiv.org/abs/2402.10571); (1 + scale) gap at p."""
    return math.log(p / (1 - p)) + scale * gap
