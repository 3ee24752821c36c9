"""REINFORCE++: PPO's clip on advantages that need no critic."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.credit.normalising import Whiten
from lit_rlhf.credit.temporal import RewardToGo
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.policy import ClippedSurrogate
from lit_rlhf.rewards.base import Reward


class ReinforcePlusPlus(OnlineAlgorithm):
    """BDA, posterior form, without a critic on its own samples; the KL to the reference is in the reward.

    L = -mean_t min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t), A_t = R - tau sum_{l >= t} log(pi_l / u_l), then less
    its mean and divided by its standard deviation over all tokens of the iteration on all ranks.

    Target: u e^{r/tau} / Z at a fixed tau, as dividing all advantages by one number changes no stationary point.
    See "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Normalization" by Hu et al.
    (https://arxiv.org/abs/2501.03262).
    The default parts are `ClippedSurrogate()`, `[KLInReward(), RewardToGo(), Whiten()]` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, credit: Sequence[CreditStep] | None = None,
        reference: Reference | None = None, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or ClippedSurrogate(), reward=reward,
            credit=[KLInReward(), RewardToGo(), Whiten()] if credit is None else credit,
            reference=reference or FrozenCopy(), **kwargs,
        )
