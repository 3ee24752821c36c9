"""AOT: alignment via optimal transport."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses import transport
from lit_rlhf.losses.base import LossHead


class AOT(Algorithm):
    """PRA, posterior form, on sorted samples.

    L = -sum_i log sigma(a_(i) - b_(i)), a and b sorted over the whole optimizer step.
    a are tau log[pi(y_w)/pi(y_l)] and b the same of u; unpaired, they are tau log(pi/u) of the chosen and of the
    rejected ends.

    Target: no Boltzmann law; a is to dominate b stochastically.
    See "Distributional Preference Alignment of LLMs via Optimal Transport" by Melnyk et al.
    (https://arxiv.org/abs/2406.05882).
    The default parts are the head `AOT()` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or transport.AOT(), reference=reference or FrozenCopy(), **kwargs)
