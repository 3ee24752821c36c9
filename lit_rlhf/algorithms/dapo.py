"""DAPO: GRPO with a wider upper clip, a mean over tokens and groups that say something."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.groups import GroupRelative
from lit_rlhf.credit.truncation import DropConstantGroups
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.policy import ClippedSurrogate
from lit_rlhf.rewards.base import Reward


class DAPO(OnlineAlgorithm):
    """BDA on groups of its own samples; without KL, groups of constant reward drawn anew.

    L = -sum_t min(r_t A, clip(r_t, 1 - low, 1 + high) A) over all tokens of the update, divided by their number; low =
    0.2, high = 0.28, A = (R - mean R) / (std R + eps) of the prompt's group.
    The paper's punishment of long responses is a part of the reward: `LengthPenalty`.

    Target: pi^delta, all mass on the best responses; prompts weigh by their spread of rewards.
    See "DAPO: An Open-Source LLM Reinforcement Learning System at Scale" by Yu et al.
    (https://arxiv.org/abs/2503.14476).
    The default parts are `ClippedSurrogate(high=0.28)` and `[DropConstantGroups(), GroupRelative()]`, on groups of 8
    that are drawn up to 4 times.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, credit: Sequence[CreditStep] | None = None,
        group_size: int = 8, resample: int = 3, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or ClippedSurrogate(high=0.28), reward=reward,
            credit=[DropConstantGroups(), GroupRelative()] if credit is None else credit, group_size=group_size,
            resample=resample, **kwargs,
        )
