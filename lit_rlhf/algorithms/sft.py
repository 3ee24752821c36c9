"""SFT: supervised fine-tuning."""

from __future__ import annotations

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.regularisers import NLL


class SFT(Algorithm):
    """Maximum likelihood, prior form.

    L = -sum_t w_t log pi(y_t | x, y_<t) over the tokens of demonstrations.

    Target: the law of the demonstrations.
    See "Training language models to follow instructions with human feedback" by Ouyang et al.
    (https://arxiv.org/abs/2203.02155), section 3.5.
    The default head is `NLL()`.
    """

    def __init__(self, actor: Actor, loss: LossHead | None = None, **kwargs) -> None:
        super().__init__(actor=actor, loss=loss or NLL(), **kwargs)
