"""Online DPO: labels for pairs of the policy's own samples."""

from __future__ import annotations

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.algorithms.pairing import Pairs, RewardPairs
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.pra import PRA
from lit_rlhf.rewards.base import Reward


class OnlineDPO(OnlineAlgorithm):
    """PRA, posterior form, on pairs of its own samples.

    L = -mean_E log sigma(tau log(pi(y_w)/u(y_w)) - tau log(pi(y_l)/u(y_l))), the winner of each pair drawn with
    probability sigma(r - r'), new ones in every iteration. Nothing is differentiated through the sampling.

    Target: u e^{r/tau} / Z; with a judge that always prefers the better one no finite one, whatever tau.
    See "Direct Language Model Alignment from Online AI Feedback" by Guo et al. (https://arxiv.org/abs/2402.04792).
    The default parts are `PRA(tau=0.1)`, `RewardPairs(labels="sampled")` and `FrozenCopy()`, on groups of 2.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, pairs: Pairs | None = None,
        reference: Reference | None = None, group_size: int = 2, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or PRA(), reward=reward, pairs=pairs or RewardPairs(labels="sampled"),
            reference=reference or FrozenCopy(), group_size=group_size, **kwargs,
        )
