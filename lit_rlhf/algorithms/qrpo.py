"""QRPO: quantile reward policy optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.ra import RA


class QRPO(Algorithm):
    """RA, posterior form, on quantiles.

    L = sum_S (tau log(pi/u) + tau log(tau (e^{1/tau} - 1)) - q)^2 / 2.
    q is the quantile of a response's reward among those of its prompt, ties counted half: uniform under u, so Z is
    known.

    Target: u e^{q/tau} / Z, exact for rewards without ties and many responses drawn from u.
    See "Quantile Reward Policy Optimization" by Matrenok et al. (https://arxiv.org/abs/2507.08068).
    The default parts are `RA(partition="quantile")` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        head = loss or RA(partition="quantile")
        super().__init__(actor=actor, loss=head, reference=reference or FrozenCopy(), **kwargs)
