"""SLiC-HF: sequence likelihood calibration with human feedback."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.links import Hinge
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.regularisers import NLL


class SLiC(Algorithm):
    """PRA, prior form, hinge link, with likelihood.

    L = sum_E max(0, 1 - tau log[pi(y_w)/pi(y_l)]) - sum_t log pi(y_w,t), each divided by its count.
    The paper's margin delta is 1/tau; its likelihood of a reference text is that of the chosen end, per token.

    Target: no Boltzmann law; the size of a preference beyond 1/2 is not seen.
    See "SLiC-HF: Sequence Likelihood Calibration with Human Feedback" by Zhao et al.
    (https://arxiv.org/abs/2305.10425).
    The default head is `PRA(tau=1.0, link=Hinge()) + NLL()`.
    """

    def __init__(self, actor: Actor, loss: LossHead | None = None, **kwargs) -> None:
        super().__init__(actor=actor, loss=loss or PRA(tau=1.0, link=Hinge()) + NLL(), **kwargs)
