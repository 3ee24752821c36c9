"""InfoNCA: noise contrastive alignment, listwise."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses import listwise
from lit_rlhf.losses.base import LossHead


class InfoNCA(Algorithm):
    """PRA, posterior form, listwise.

    L = -sum_k softmax(r/alpha)_k log softmax(tau log(pi/u))_k over the K responses of a prompt.

    Target: u e^{r/(alpha tau)} / Z.
    See "Noise Contrastive Alignment of Language Models with Explicit Rewards" by Chen et al.
    (https://arxiv.org/abs/2402.05369).
    The default parts are the head `InfoNCA()` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or listwise.InfoNCA(), reference=reference or FrozenCopy(), **kwargs)
