"""PPO: proximal policy optimisation with a critic."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.critic import Critic, SharedCritic
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.credit.normalising import Whiten
from lit_rlhf.credit.temporal import GAE
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.policy import ClippedSurrogate
from lit_rlhf.losses.regularisers import ValueLoss
from lit_rlhf.rewards.base import Reward


class PPO(OnlineAlgorithm):
    """BDA, posterior form, with a critic on its own samples; the KL to the reference is in the reward.

    L = -mean_t min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) + 1/2 * 1/2 mean_t (V_t - R_t)^2, A by GAE of r - tau log(pi/u).

    Target: u e^{r/tau} / Z, at gamma = 1 and a fixed tau.
    See "Proximal Policy Optimization Algorithms" by Schulman et al. (https://arxiv.org/abs/1707.06347).
    The default parts are `ClippedSurrogate() + 0.5 * ValueLoss(clip=0.2)`, `[KLInReward(), GAE(), Whiten()]`,
    `FrozenCopy()` and a `Critic` on the actor's own source.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, credit: Sequence[CreditStep] | None = None,
        reference: Reference | None = None, critic: Critic | SharedCritic | None = None, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or ClippedSurrogate() + 0.5 * ValueLoss(clip=0.2), reward=reward,
            credit=[KLInReward(), GAE(), Whiten()] if credit is None else credit, reference=reference or FrozenCopy(),
            critic=critic or Critic(actor.model.source), **kwargs,
        )
