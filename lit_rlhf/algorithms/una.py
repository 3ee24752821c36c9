"""UNA: unified alignment."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.ra import RA


class UNA(Algorithm):
    """RA, posterior form, without a partition.

    L = sum_S (tau log(pi/u) - r)^2 / 2.

    Target: u e^{r/tau} where rewards are such that it sums to 1, and else biased where coverage is uneven.
    See "UNA: Unifying Alignments of RLHF/PPO, DPO and KTO by a Generalized Implicit Reward Function" by Wang et al.
    (https://arxiv.org/abs/2408.15339).
    The default parts are `RA(partition="none")` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or RA(partition="none"), reference=reference or FrozenCopy(), **kwargs)
