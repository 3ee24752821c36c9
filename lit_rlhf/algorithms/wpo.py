"""WPO: weighted preference optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.pra import PRA, PolicyWeighted


class WPO(Algorithm):
    """PRA, posterior form, pairs weighed by the policy.

    L = -sum_E w(y_w) w(y_l) log sigma(h), w(y) = exp(mean_t log[pi(y_t) / sum_v pi(v)^2]).
    w has no gradient; h = tau log[pi(y_w) u(y_l) / (pi(y_l) u(y_w))].

    Target: that of DPO; w(y_w) w(y_l) is a pair law, which does not move a Bradley-Terry target.
    See "WPO: Enhancing RLHF with Weighted Preference Optimization" by Zhou et al. (https://arxiv.org/abs/2406.11827),
    equation 2 (sampled alignment).
    The default parts are `PolicyWeighted(PRA())` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or PolicyWeighted(PRA()), reference=reference or FrozenCopy(), **kwargs)
