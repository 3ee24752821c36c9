"""SimPO: simple preference optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.links import Logistic
from lit_rlhf.losses.pra import PRA


class SimPO(Algorithm):
    """PRA, prior form, log-probs averaged over tokens.

    L = -sum_E log sigma(tau [log pi(y_w)/|y_w| - log pi(y_l)/|y_l|] - margin).

    Target: no Boltzmann law; the margin is added to every logit p, and the average is no log-prob of a completion.
    See "SimPO: Simple Preference Optimization with a Reference-Free Reward" by Meng et al.
    (https://arxiv.org/abs/2405.14734), equation 6.
    The default head is `PRA(tau=2.0, link=Logistic(margin=1.0), reduce="mean")`.
    """

    def __init__(self, actor: Actor, loss: LossHead | None = None, **kwargs) -> None:
        super().__init__(actor=actor, loss=loss or PRA(tau=2.0, link=Logistic(margin=1.0), reduce="mean"), **kwargs)
