"""SPPO: self-play preference optimisation, one round on given pairs."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses import links
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.pra import PRA


class SPPO(Algorithm):
    """PRA, posterior form, squared at both ends.

    L = sum_E [(log(pi/u)(y_w) - 1/(2 tau))^2 + (log(pi/u)(y_l) + 1/(2 tau))^2].
    One round on given pairs, whose labels stand for the win rates 1 and 0; 1/tau is the paper's eta.

    Target: near u e^{P/tau} / Z with P(y) the probability that y beats the data's law; the constant 1/2 is not tau log
    Z.
    See "Self-Play Preference Optimization for Language Model Alignment" by Wu et al.
    (https://arxiv.org/abs/2405.00675).
    The default parts are `PRA(link=SPPO())` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        head = loss or PRA(link=links.SPPO())
        super().__init__(actor=actor, loss=head, reference=reference or FrozenCopy(), **kwargs)
