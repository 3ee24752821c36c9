"""Which samples are imitated: the best of each prompt's group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lit_rlhf.credit.base import Credited, CreditStep
from lit_rlhf.credit.counting import own, with_weight_zero
from lit_rlhf.errors import InputError
from lit_rlhf.losses.evidence import one_of
from lit_rlhf.losses.metrics import mean
from lit_rlhf.types import Rollout

Of = Literal["own", "opponents"]
"""The policy's own samples, or those of its opponent."""


@dataclass(frozen=True)
class KeepBest(CreditStep):
    """All but the n samples of the highest reward of each prompt get weight 0; of equal ones the first is kept.

    With a likelihood as the loss, `own` is RAFT ("RAFT: Reward rAnked FineTuning for Generative Foundation Model
    Alignment" by Dong et al., https://arxiv.org/abs/2304.06767), and the opponents of `FromReference` make the best
    of n.
    Metric: `kept_reward`, the mean reward of what is kept.

    Args:
        n: samples kept of each prompt; all of them where there are not more.
        of: whose samples are ranked; the others' get weight 0 too.

    Raises:
        InputError: n is below 1; when it is called, there are no opponents.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"group"})
    gives: ClassVar[frozenset[str]] = frozenset({"weight"})

    n: int = 1
    of: Of = "own"

    def __post_init__(self) -> None:
        one_of(Of, self.of, self, "of")
        if self.n < 1:
            raise InputError(f"KeepBest.n is {self.n}; it is 1 or more")

    def __call__(self, rollout: Rollout) -> Credited:
        rows = self.ranked(rollout).nonzero()[:, 0]
        best = torch.argsort(rollout.reward[rows], descending=True, stable=True)
        rows = rows[best]
        kept = torch.zeros_like(rollout.reward, dtype=torch.bool)
        kept[rows[places(rollout.sequences.prompt_of[rows]) < self.n]] = True
        left = with_weight_zero(rollout, ~kept)
        return Credited(left, (mean("kept_reward", left.reward, left.sequence_weight),))

    def ranked(self, rollout: Rollout) -> Tensor:
        """[S] bool: takes part."""
        if self.of == "own":
            return own(rollout)
        if rollout.opponent is None:
            raise InputError("KeepBest(of=opponents) ranks an opponent's samples, and has none; set model.opponent")
        return rollout.opponent & (rollout.sequence_weight != 0)


def places(group: Tensor) -> Tensor:
    """[n] how many before each have the same group [n]."""
    order = torch.argsort(group, stable=True)
    counts = torch.unique_consecutive(group[order], return_counts=True)[1]
    within = torch.arange(len(group), device=group.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return torch.zeros_like(group).index_copy(0, order, within)
