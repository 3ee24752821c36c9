"""NCA: noise contrastive alignment, pointwise."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses import listwise
from lit_rlhf.losses.base import LossHead


class NCA(Algorithm):
    """PRA, posterior form, pointwise.

    L = -sum_k [softmax(r/alpha)_k log sigma(s_k) + log sigma(-s_k)/K], s = tau log(pi/u).
    k counts the K responses of a prompt, drawn from u.

    Target: u e^{r/alpha} / Z at tau = 1 and many responses.
    See "Noise Contrastive Alignment of Language Models with Explicit Rewards" by Chen et al.
    (https://arxiv.org/abs/2402.05369).
    The default parts are the head `NCA()` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or listwise.NCA(), reference=reference or FrozenCopy(), **kwargs)
