"""GRPO: group relative policy optimisation."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.groups import GroupRelative
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.policy import ClippedSurrogate
from lit_rlhf.rewards.base import Reward


class GRPO(OnlineAlgorithm):
    """BDA on its own samples; without a critic.

    L = -mean_S 1/|y| sum_t min(r_t A, clip(r_t, 1 - low, 1 + high) A), A = (R - mean R) / (std R + eps) of the prompt's group.
    A KL to the reference as a loss (`KLPenalty`) is the user's to add.

    Target: pi^delta, all mass on the best responses; prompts weigh by their spread of rewards.
    See "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models" by Shao et al.
    (https://arxiv.org/abs/2402.03300).
    The default parts are `ClippedSurrogate(average="sequence")` and `GroupRelative()`, on groups of 8.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, credit: Sequence[CreditStep] | None = None,
        group_size: int = 8, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or ClippedSurrogate(average="sequence"), reward=reward,
            credit=[GroupRelative()] if credit is None else credit, group_size=group_size, **kwargs,
        )
