"""XPO: online DPO that is paid for leaving what the reference would say."""

from __future__ import annotations

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.algorithms.opponents import FromReference, Opponent
from lit_rlhf.algorithms.pairing import Pairs, RewardPairs
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.regularisers import OpponentLikelihood
from lit_rlhf.rewards.base import Reward


class XPO(OnlineAlgorithm):
    """PRA, posterior form, on pairs of its own and the reference's samples; with a bonus for exploring.

    L = -mean_E log sigma(tau log(pi(y_w)/u(y_w)) - tau log(pi(y_l)/u(y_l))) + alpha mean_E log pi(y'), y' the
    reference's end of the pair.
    The paper's loss keeps the pairs of all earlier iterations; here each trains on its own.

    Target: u e^{r/tau} / Z where labels are Bradley-Terry draws, displaced from it by the bonus, in proportion to
    alpha/tau.
    See "Exploratory Preference Optimization: Harnessing Implicit Q*-Approximation for Sample-Efficient RLHF" by Xie et
    al. (https://arxiv.org/abs/2405.21046).
    The default parts are `PRA(tau=0.1) + 1e-5 * OpponentLikelihood()`, `RewardPairs(labels="sampled",
    between="opponents")`, `FromReference()` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, pairs: Pairs | None = None,
        reference: Reference | None = None, opponent: Opponent | None = None, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or PRA() + 1e-5 * OpponentLikelihood(), reward=reward,
            pairs=pairs or RewardPairs(labels="sampled", between="opponents"), reference=reference or FrozenCopy(),
            opponent=opponent or FromReference(), **kwargs,
        )
