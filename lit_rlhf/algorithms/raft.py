"""RAFT: the likelihood of the best of each group."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.selection import KeepBest
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.regularisers import NLL
from lit_rlhf.rewards.base import Reward


class RAFT(OnlineAlgorithm):
    """Maximum likelihood of the best of its own samples.

    L = -mean_t log pi_t, over the tokens of the response of the highest reward in each prompt's group.

    Target: pi^delta, all mass on the best responses; k rounds that fit exactly are best of K^k.
    See "RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment" by Dong et al.
    (https://arxiv.org/abs/2304.06767).
    The default parts are `NLL()` and `KeepBest()`, on groups of 8.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, credit: Sequence[CreditStep] | None = None,
        group_size: int = 8, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or NLL(), reward=reward, credit=[KeepBest()] if credit is None else credit,
            group_size=group_size, **kwargs,
        )
