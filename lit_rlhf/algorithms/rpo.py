"""RPO: reward-aware preference optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.rda import RDA


class RPO(Algorithm):
    """RDA, posterior form.

    L = sum_E (h - (r_w - r_l))^2 / 2, h = tau log[pi(y_w) u(y_l) / (pi(y_l) u(y_w))].
    The paper's squared distance; its backward KL is `PRA()` on soft labels, and its eta the scale of the data's
    rewards.

    Target: u e^{r/tau} / Z on any connected pair graph.
    See "Reward-aware Preference Optimization: A Unified Mathematical Framework for Model Alignment" by Sun et al.
    (https://arxiv.org/abs/2502.00203).
    The default parts are `RDA()` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or RDA(), reference=reference or FrozenCopy(), **kwargs)
