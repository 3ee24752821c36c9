"""GVPO: group variance policy optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.rda import GroupVariance


class GVPO(Algorithm):
    """RDA, posterior form, on groups.

    L = sum_k (g_k - mean g)^2 / (2 (K - 1)) per prompt, g = tau log(pi/u) - r of its K responses.
    Here on given groups; the paper samples them.

    Target: u e^{r/tau} / Z where every response can occur in the groups.
    See "GVPO: Group Variance Policy Optimization for Large Language Model Post-Training" by Zhang et al.
    (https://arxiv.org/abs/2504.19599).
    The default parts are `GroupVariance()` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or GroupVariance(), reference=reference or FrozenCopy(), **kwargs)
