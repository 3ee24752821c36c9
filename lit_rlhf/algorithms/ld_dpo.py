"""LD-DPO: length-desensitised DPO."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.pra import LengthDesensitised


class LDDPO(Algorithm):
    """PRA, posterior form, tokens beyond the shorter end counted alpha.

    L = -sum_E log sigma(tau (l_w - l_l)).
    l = sum_{t <= n} log(pi/u)_t + alpha sum_{t > n} log(pi/u)_t with n = min(|y_w|, |y_l|); alpha = 1 is DPO.

    Target: no Boltzmann law of r below alpha = 1.
    See "Length Desensitization in Direct Preference Optimization" by Liu et al. (https://arxiv.org/abs/2409.06411).
    The default parts are `LengthDesensitised()` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or LengthDesensitised(), reference=reference or FrozenCopy(), **kwargs)
