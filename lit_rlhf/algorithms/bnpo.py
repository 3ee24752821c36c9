"""BNPO: advantages divided by a Beta density that is fitted to the success rates of the prompts."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.beta import BetaNormalised
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.policy import ClippedSurrogate
from lit_rlhf.rewards.base import Reward


class BNPO(OnlineAlgorithm):
    """BDA on groups of its own samples; for rewards between two known numbers.

    L = -mean_S sum_t min(r_t A, clip(r_t, 1 - low, 1 + high) A), A = (R - p) / f(p; alpha, beta), p the mean reward of
    the prompt's group and f the density of a Beta law whose alpha and beta follow the rates of the iteration. TRL's
    loss_type=bnpo is something else: GRPO with `average: token`.

    Target: pi^delta, all mass on the best responses; prompts weigh by 1/f(p).
    See "BNPO: Beta Normalization Policy Optimization" by Xiao et al. (https://arxiv.org/abs/2506.02864).
    The default parts are `ClippedSurrogate(average="sum")` and `BetaNormalised()`, on groups of 8.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, credit: Sequence[CreditStep] | None = None,
        group_size: int = 8, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or ClippedSurrogate(average="sum"), reward=reward,
            credit=[BetaNormalised()] if credit is None else credit, group_size=group_size, **kwargs,
        )
