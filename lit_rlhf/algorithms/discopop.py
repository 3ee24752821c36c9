"""DiscoPOP: a preference loss found by search."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses import links
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.pra import PRA


class DiscoPOP(Algorithm):
    """PRA, posterior form, a link found by search.

    L = sum_E [(1 - s)(-log sigma(h)) + s e^{-h}], s = sigma(h / sharpness).
    h = tau log[pi(y_w) u(y_l) / (pi(y_l) u(y_w))].

    Target: no Boltzmann law; the link is not convex.
    See "Discovering Preference Optimization Algorithms with and for Large Language Models" by Lu et al.
    (https://arxiv.org/abs/2406.08414).
    The default parts are `PRA(link=DiscoPOP())` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        head = loss or PRA(link=links.DiscoPOP())
        super().__init__(actor=actor, loss=head, reference=reference or FrozenCopy(), **kwargs)
