"""BCO: binary classifier optimisation."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy, Reference
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.unpaired import ClassMeans, CrossEntropy, UnpairedPRA


class BCO(Algorithm):
    """PRA, posterior form, unpaired.

    L = -sum_S [q log sigma(s - z) + (1 - q) log sigma(z - s)], s = tau log(pi/u).
    q is 1 for good responses and 0 for bad ones, and z the running mean of (E[s | good] + E[s | bad]) / 2. The paper's
    weights for bad prompts that differ from the good ones are left out.

    Target: no Boltzmann law in general; s is fitted to z + logit q, which a normalised policy need not meet.
    See "Binary Classifier Optimization for Large Language Model Alignment" by Jung et al.
    (https://arxiv.org/abs/2404.04656).
    The default parts are `UnpairedPRA(value=CrossEntropy(), anchor=ClassMeans())` and `FrozenCopy()`.
    """

    def __init__(
        self, actor: Actor, loss: LossHead | None = None, reference: Reference | None = None, **kwargs
    ) -> None:
        head = loss or UnpairedPRA(value=CrossEntropy(), anchor=ClassMeans())
        super().__init__(actor=actor, loss=head, reference=reference or FrozenCopy(), **kwargs)
