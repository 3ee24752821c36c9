"""DPO: direct preference optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.pra import PRA


class DPO(Algorithm):
    """PRA, posterior form, on drawn labels.

    L = -sum_E log sigma(tau log[pi(y_w)/u(y_w)] - tau log[pi(y_l)/u(y_l)]).

    Target: u e^{r/tau} / Z where labels are Bradley-Terry draws, new ones at every step; with one fixed label per pair
    no finite one, whatever tau.
    See "Direct Preference Optimization: Your Language Model is Secretly a Reward Model" by Rafailov et al.
    (https://arxiv.org/abs/2305.18290), equation 7.
    The default parts are `PRA()` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or PRA(), reference=reference or FrozenCopy(), **kwargs)
