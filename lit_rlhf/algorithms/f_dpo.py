"""f-DPO: DPO with other divergences."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.divergences import JensenShannon
from lit_rlhf.losses.pra import PRA


class FDPO(Algorithm):
    """PRA, posterior form, another divergence.

    L = -sum_E log sigma(tau f'(w_w) - tau f'(w_l)), w = pi/u of a completion.
    f' is log(2w/(1 + w)) for Jensen-Shannon, -1/w for forward KL, (1 - w^-alpha)/alpha for alpha, and log w for
    reverse KL, which is DPO.

    Target: f'(pi/u) = (r + constant)/tau, which is Boltzmann for reverse KL alone.
    See "Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence Constraints" by Wang et
    al. (https://arxiv.org/abs/2309.16240).
    The default parts are `PRA(divergence=JensenShannon())` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        head = loss or PRA(divergence=JensenShannon())
        super().__init__(actor=actor, loss=head, reference=reference or FrozenCopy(), **kwargs)
