"""RLOO: REINFORCE against the mean of the other samples."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.credit.base import CreditStep
from lit_rlhf.credit.groups import LeaveOneOut
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.policy import Reinforce
from lit_rlhf.rewards.base import Reward


class RLOO(OnlineAlgorithm):
    """BDA, posterior form, on groups of its own samples; a whole response is one action and the KL is in its reward.

    L = -mean_S A log pi(y), A_k = R_k - mean_{j != k} R_j, R = r - tau log(pi(y)/u(y)).
    The gradient on a group is 1/tau that of `GroupVariance` and 1/(2 tau) that of `RDA` (theory: eq. 10).

    Target: u e^{r/tau} / Z, at a fixed tau and one update an iteration.
    See "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs" by Ahmadian
    et al. (https://arxiv.org/abs/2402.14740).
    The default parts are `Reinforce()`, `[KLInReward(), LeaveOneOut()]` and `FrozenCopy()`, on groups of 4.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, credit: Sequence[CreditStep] | None = None,
        reference: Reference | None = None, group_size: int = 4, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or Reinforce(), reward=reward,
            credit=[KLInReward(), LeaveOneOut()] if credit is None else credit, reference=reference or FrozenCopy(),
            group_size=group_size, **kwargs,
        )
