"""REINFORCE: the policy gradient."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.normalising import Baseline
from lit_rlhf.credit.temporal import RewardToGo
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.policy import Reinforce
from lit_rlhf.rewards.base import Reward


class REINFORCE(OnlineAlgorithm):
    """BDA on its own samples; without a critic.

    L = -mean_S sum_t A_t log pi_t, A_t = sum_{l >= t} r_l - b: what followed each token, less a running mean of the
    rewards.
    It is the gradient of the expected reward where an iteration makes one update.

    Target: pi^delta, all mass on the best responses.
    See "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning" by Williams
    (https://doi.org/10.1007/BF00992696).
    The default parts are `Reinforce()` and `[RewardToGo(), Baseline()]`.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, credit: Sequence[CreditStep] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or Reinforce(), reward=reward,
            credit=[RewardToGo(), Baseline()] if credit is None else credit, **kwargs,
        )
