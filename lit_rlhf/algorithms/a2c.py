"""A2C: the policy gradient with a critic and an entropy bonus."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.critic import Critic, SharedCritic
from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.temporal import GAE
from lit_rlhf.losses.base import LossHead, Sum
from lit_rlhf.losses.policy import Reinforce
from lit_rlhf.losses.regularisers import EntropyBonus, ValueLoss
from lit_rlhf.rewards.base import Reward


class A2C(OnlineAlgorithm):
    """BDA with a critic on its own samples; without a reference.

    L = -mean_t A_t log pi_t + 1/2 * 1/2 mean_t (V_t - R_t)^2 - 0.01 mean_t H(pi(. | x, y_<t)), A_t = R_t - V_t, R_t =
    sum_{l >= t} r_l.
    The paper's n-step returns with n the rest of a completion; many samples at once are in the place of its threads.

    Target: without the bonus pi^delta, all mass on the best responses; no Boltzmann law with it, as it counts the
    entropy of the next token at states that the policy visits and no effect of a token on those to come.
    See "Asynchronous Methods for Deep Reinforcement Learning" by Mnih et al. (https://arxiv.org/abs/1602.01783).
    The default parts are `Reinforce(average="token") + 0.5 * ValueLoss() + 0.01 * EntropyBonus()`, `[GAE(lam=1.0)]` and
    a `Critic` on the actor's own source.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, credit: Sequence[CreditStep] | None = None,
        critic: Critic | SharedCritic | None = None, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or Sum((Reinforce(average="token"), 0.5 * ValueLoss(), 0.01 * EntropyBonus())),
            reward=reward, credit=[GAE(lam=1.0)] if credit is None else credit,
            critic=critic or Critic(actor.model.source), **kwargs,
        )
