"""Nash-MD: the policy gradient of winning against a mixture of policy and reference."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.algorithms.opponents import FromMixture, Opponent
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.credit.normalising import Baseline
from lit_rlhf.credit.preferences import AgainstOpponents
from lit_rlhf.credit.temporal import RewardToGo
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.policy import Reinforce
from lit_rlhf.rewards.base import Reward


class NashMD(OnlineAlgorithm):
    """BDA, posterior form, on preferences over samples of a mixture of policy and reference.

    L = -mean_S sum_t A_t log pi_t, A_t = P(y > y') - b - tau sum_{l >= t} log(pi_l/u_l), y' drawn token by token in
    proportion to pi^(1 - beta) u^beta. b is a running mean, where the paper has 1/2.

    Target: the fixed point pi = u e^{P(y > y')/tau} / Z, at beta = 0 the regularised Nash equilibrium; no Boltzmann law
    of r.
    See "Nash Learning from Human Feedback" by Munos et al. (https://arxiv.org/abs/2312.00886).
    The default parts are `Reinforce()`, `[AgainstOpponents(), KLInReward(), RewardToGo(), Baseline()]`, `FromMixture()`
    and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, credit: Sequence[CreditStep] | None = None,
        reference: Reference | None = None, opponent: Opponent | None = None, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or Reinforce(), reward=reward,
            credit=[AgainstOpponents(), KLInReward(), RewardToGo(), Baseline()] if credit is None else credit,
            reference=reference or FrozenCopy(), opponent=opponent or FromMixture(), **kwargs,
        )
