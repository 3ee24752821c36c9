"""REBEL: regression of reward differences, each iteration relative to the policy that sampled."""

from __future__ import annotations

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.losses.base import AgainstBehaviour, LossHead
from lit_rlhf.losses.rda import RDA
from lit_rlhf.rewards.base import Reward


class REBEL(OnlineAlgorithm):
    """RDA on pairs of its own samples; the base measure is the policy that sampled them.

    L = mean_E (tau [log(pi(y)/pi_old(y)) - log(pi(y')/pi_old(y'))] - (r - r'))^2 / 2, tau = 1/eta of the paper, pi_old
    the policy at the start of the iteration, whose updates fit one regression.

    Target: an iteration's is pi_old e^{r/tau} / Z; over iterations pi^delta, all mass on the best responses.
    See "REBEL: Reinforcement Learning via Regressing Relative Rewards" by Gao et al.
    (https://arxiv.org/abs/2404.16767).
    The default head is `AgainstBehaviour(RDA(1.0))`, on groups of 2.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, group_size: int = 2, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or AgainstBehaviour(RDA(1.0)), reward=reward, group_size=group_size, **kwargs,
        )
