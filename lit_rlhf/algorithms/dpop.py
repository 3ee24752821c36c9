"""DPOP: DPO-positive."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.links import Positive
from lit_rlhf.losses.pra import PRA


class DPOP(Algorithm):
    """PRA, posterior form, with a penalty where the chosen end falls.

    L = -sum_E log sigma(a - b - penalty max(0, -a)).
    a, b = tau log(pi/u) of the chosen and the rejected end.

    Target: no Boltzmann law; chosen ends are kept from falling below u.
    See "Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive" by Pal et al.
    (https://arxiv.org/abs/2402.13228), equation 3.
    The default parts are `PRA(link=Positive())` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or PRA(link=Positive()), reference=reference or FrozenCopy(), **kwargs)
