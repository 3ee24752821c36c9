"""APO: anchored preference optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.links import APOZero
from lit_rlhf.losses.pra import PRA


class APO(Algorithm):
    """PRA, posterior form, APO-zero's link.

    L = sum_E [1 - sigma(a) + sigma(b)], a, b = tau log(pi/u) of the chosen and the rejected end.
    The chosen end rises and the rejected one falls; with the link `APODown` both fall, the chosen one less.

    Target: no Boltzmann law; mass goes to responses that win more often than not.
    See "Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification in Alignment" by
    D'Oosterlinck et al. (https://arxiv.org/abs/2408.06266).
    The default parts are `PRA(link=APOZero())` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or PRA(link=APOZero()), reference=reference or FrozenCopy(), **kwargs)
