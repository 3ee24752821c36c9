"""ORPO: odds ratio preference optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.regularisers import NLL, OddsRatio


class ORPO(Algorithm):
    """PRA, prior form, on odds, with likelihood.

    L = -sum_t log pi(y_w,t) - 0.1 sum_E log sigma(log[odds(y_w)/odds(y_l)]), each divided by its count.
    odds = P/(1 - P) with log P the mean log-prob of a token.

    Target: no Boltzmann law.
    See "ORPO: Monolithic Preference Optimization without Reference Model" by Hong et al.
    (https://arxiv.org/abs/2403.07691), equations 6 and 7.
    The default head is `NLL() + 0.1 * OddsRatio()`.
    """

    def __init__(self, actor: Actor, loss: LossHead | None = None, **kwargs) -> None:
        super().__init__(actor=actor, loss=loss or NLL() + 0.1 * OddsRatio(), **kwargs)
