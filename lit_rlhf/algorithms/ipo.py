"""IPO: identity preference optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.links import Squared
from lit_rlhf.losses.pra import PRA


class IPO(Algorithm):
    """PRA, posterior form, squared link.

    L = sum_E (log[pi(y_w) u(y_l) / (pi(y_l) u(y_w))] - 1/(2 tau))^2.

    Target: on pairs from mu x mu, u e^{P/tau} / Z with P(y) the probability that y beats a draw of mu; tau is a
    regulariser and no Boltzmann temperature of r.
    See "A General Theoretical Paradigm to Understand Learning from Human Preferences" by Azar et al.
    (https://arxiv.org/abs/2310.12036), equation 17.
    The default parts are `PRA(link=Squared())` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or PRA(link=Squared()), reference=reference or FrozenCopy(), **kwargs)
