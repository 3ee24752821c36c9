"""Advantages of whole completions against the others of their prompt's group."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.credit.base import Credited, CreditStep
from lit_rlhf.credit.counting import constant_over_tokens, own, refuse_single_samples, totals
from lit_rlhf.errors import InputError
from lit_rlhf.functional import advantages as ragged
from lit_rlhf.types import Rollout


class OfGroup(CreditStep):
    """An advantage made of the total rewards (token rewards included) of a group's samples that count."""

    needs = frozenset({"group"})
    gives = frozenset({"advantages"})

    @abstractmethod
    def advantages(self, total: Tensor, group: Tensor, count: int) -> Tensor:
        """[n] of the `total` [n] rewards of samples of each `group` [n] in 0..count-1."""

    def __call__(self, rollout: Rollout) -> Credited:
        refuse_single_samples(rollout, self)
        rows, sequences = own(rollout).nonzero()[:, 0], rollout.sequences
        total = totals(rollout)
        found = self.advantages(total[rows], sequences.prompt_of[rows], len(sequences.prompt_lengths))
        advantages = torch.zeros_like(total).index_copy(0, rows, found)
        return Credited(dataclasses.replace(rollout, advantages=constant_over_tokens(rollout, advantages)))


@dataclass(frozen=True)
class LeaveOneOut(OfGroup):
    """A_k = r_k - mean_{j != k} r_j over a prompt's samples; a sample whose others were all left out has 0.

    See "Back to Basics" by Ahmadian et al. (https://arxiv.org/abs/2402.14740; RLOO).
    """

    def advantages(self, total: Tensor, group: Tensor, count: int) -> Tensor:
        return ragged.leave_one_out(total, group, count)


@dataclass(frozen=True)
class GroupRelative(OfGroup):
    """A_k = (r_k - mean r) / (std r + epsilon) over a prompt's samples, std with K.

    See "DeepSeekMath" by Shao et al. (https://arxiv.org/abs/2402.03300), section 4.1.2 (GRPO), and without the division
    "Understanding R1-Zero-Like Training" by Liu et al. (https://arxiv.org/abs/2503.20783), section 3.2 (Dr. GRPO).

    Args:
        std: divide by the group's standard deviation.
        epsilon: what is added to it; the papers have none.
    """

    std: bool = True
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise InputError(f"GroupRelative.epsilon is {self.epsilon}; it is positive, as a group may not vary")

    def advantages(self, total: Tensor, group: Tensor, count: int) -> Tensor:
        return ragged.group_relative(total, group, count, self.epsilon if self.std else None)
