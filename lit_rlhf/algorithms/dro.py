"""DRO: direct reward optimisation."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.learned import Learned, LogPartition
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.ra import RA


class DRO(Algorithm):
    """RA, posterior form, with a learned value.

    L = sum_S (tau log(pi/u) + V(x) - r)^2 / 2.
    V = tau log Z is learned by the same loss. One scored response per prompt is enough.

    Target: u e^{r/tau} / Z where every response can occur in the data.
    See "Offline Regularised Reinforcement Learning for Large Language Models Alignment" by Richemond et al.
    (https://arxiv.org/abs/2405.19107).
    The default parts are `RA(partition="learned")`, `FrozenCopy()` and a `LogPartition` on the actor's own source.
    """

    def __init__(
        self,
        actor: Actor,
        loss: LossHead | None = None,
        reference: Reference | None = None,
        learned: Sequence[Learned] | None = None,
        **kwargs,
    ) -> None:
        head = loss or RA(partition="learned")
        learned = [LogPartition(actor.model.source)] if learned is None else learned
        super().__init__(actor=actor, loss=head, reference=reference or FrozenCopy(), learned=learned, **kwargs)
