"""CPO: contrastive preference optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.regularisers import NLL


class CPO(Algorithm):
    """PRA, prior form, with likelihood.

    L = -sum_E log sigma(tau log[pi(y_w)/pi(y_l)]) - sum_t log pi(y_w,t), each divided by its count.

    Target: e^{r/tau} / Z, moved by the likelihood term towards the law of the chosen ends.
    See "Contrastive Preference Optimization: Pushing the Boundaries of LLM Performance in Machine Translation" by Xu
    et al. (https://arxiv.org/abs/2401.08417).
    The default head is `PRA() + NLL()`.
    """

    def __init__(self, actor: Actor, loss: LossHead | None = None, **kwargs) -> None:
        super().__init__(actor=actor, loss=loss or PRA() + NLL(), **kwargs)
