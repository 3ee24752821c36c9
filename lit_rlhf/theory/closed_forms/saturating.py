"""Losses that saturate, 1 - sigma(x): all mass goes to the responses that are better than not."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_rlhf.errors import InputError
from lit_rlhf.theory.closed_forms.solving import increasing_root, normalised
from lit_rlhf.theory.residual import edge_weights


def saturated(worth: Tensor, tau: float, log_base: Tensor | None = None, anchor: float = 0.0) -> Tensor:
    """[n] the argmax of sum_y c(y) sigma(tau log(pi/u) - z): no mass where c <= 0, elsewhere c sigma'(x)/pi is the
    same.

    For tau <= 1 the sum is concave in pi, and the argmax unique; it is a limit of softmax policies and none of them, as
    all logits where c <= 0 go to -inf. Not Boltzmann: c enters by its sign first.

    Args:
        worth: [n] c.
        tau: in (0, 1].
        anchor: z.

    Raises:
        InputError: tau is above 1, or no response is better than not.
    """
    if not 0 < tau <= 1:
        raise InputError(f"saturated: tau is {tau:g}; above 1 the loss has several minima")
    if not bool((worth > 0).any()):
        raise InputError("saturated: no response has a positive worth, and there is no limit of the policy")
    base = torch.zeros_like(worth) if log_base is None else log_base
    good = worth > 0
    log_worth = torch.where(good, worth, 1.0).log()

    def law(log_price: Tensor) -> Tensor:
        def gain(log_pi: Tensor) -> Tensor:
            x = tau * (log_pi - base) - anchor
            return log_worth + math.log(tau) + logsigmoid(x) + logsigmoid(-x) - log_pi

        low, high = torch.full_like(worth, -700.0), torch.zeros_like(worth)
        return torch.where(good, increasing_root(lambda log_pi: -log_price - gain(log_pi), low, high).exp(), 0.0)

    wide = torch.tensor(700.0, dtype=worth.dtype)
    return normalised(law, -wide, wide)


def kto_worth(law: Tensor, label: Tensor, desirable: float = 1.0, undesirable: float = 1.0) -> Tensor:
    """[n] c = mu [q lambda_D - (1 - q) lambda_U], q the probability of being desirable (KTO,
    https://arxiv.org/abs/2402.01306).

    The anchor z = max(0, E_mu r) ends at 0, as implicit rewards of the responses without mass go to -inf. With z held
    fixed: `saturated(..., anchor=z)`.
    """
    return law * (label * desirable - (1 - label) * undesirable)


def apo_zero_worth(rho: Tensor, p: Tensor) -> Tensor:
    """[n] c = sum_k w_jk (2 p_jk - 1): mass where the win rate is above 1/2 (APO-zero,
    https://arxiv.org/abs/2408.06266).
    """
    return (edge_weights(rho) * (2 * p - 1)).sum(1)
