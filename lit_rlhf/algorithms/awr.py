"""AWR: advantage-weighted regression."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.bda import ExponentialWeight


class AWR(Algorithm):
    """BDA, with the data's law mu as base measure.

    L = -sum_S min(e^{(r - b)/tau}, largest) log pi(y).
    b is the mean reward of the prompt's responses, where the paper learns a value.

    Target: mu e^{(1 - 1/K) r/tau} / Z but for weights that were cut; that of a reference only where the data were drawn
    from it.
    See "Advantage-Weighted Regression: Simple and Scalable Off-Policy Reinforcement Learning" by Peng et al.
    (https://arxiv.org/abs/1910.00177).
    The default head is `ExponentialWeight(tau=1.0, baseline="mean", largest=20.0)`.
    """

    def __init__(self, actor: Actor, loss: LossHead | None = None, **kwargs) -> None:
        super().__init__(actor=actor, loss=loss or ExponentialWeight(tau=1.0, baseline="mean", largest=20.0), **kwargs)
