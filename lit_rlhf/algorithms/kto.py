"""KTO: Kahneman-Tversky optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.unpaired import UnpairedPRA


class KTO(Algorithm):
    """PRA, posterior form, unpaired.

    L = sum_S [q sigma(z - s) + (1 - q) sigma(s - z)], s = tau log(pi/u), z = max(0, E s).
    q is 1 for good responses and 0 for bad ones. z is formed over the step's own responses, where the paper pairs
    responses with other prompts. The weights `desirable` and `undesirable` balance classes of unequal size.

    Target: no Boltzmann law; mass goes to responses that are good more often than bad.
    See "KTO: Model Alignment as Prospect Theoretic Optimization" by Ethayarajh et al.
    (https://arxiv.org/abs/2402.01306), equation 8.
    The default parts are `UnpairedPRA()` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        super().__init__(actor=actor, loss=loss or UnpairedPRA(), reference=reference or FrozenCopy(), **kwargs)
