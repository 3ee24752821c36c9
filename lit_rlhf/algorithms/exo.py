"""EXO: efficient exact optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses import links
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.pra import PRA


class EXO(Algorithm):
    """PRA, posterior form, the other direction of KL.

    L = sum_E KL(q || p), q = sigma(h), h = tau log[pi(y_w) u(y_l) / (pi(y_l) u(y_w))].
    p is the label of the pair, smoothed because the loss of a certain one is infinite.

    Target: u e^{r/tau} / Z with true probabilities and no smoothing; with drawn labels, margins (2p - 1) log((1 -
    eps)/eps).
    See "Towards Efficient Exact Optimization of Language Model Alignment" by Ji et al.
    (https://arxiv.org/abs/2402.00856).
    The default parts are `PRA(link=EXO(), label_smoothing=0.001)` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        head = loss or PRA(link=links.EXO(), label_smoothing=0.001)
        super().__init__(actor=actor, loss=head, reference=reference or FrozenCopy(), **kwargs)
