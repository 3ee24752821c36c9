"""What is left out or marked down: completions cut at the greatest length, and groups whose rewards say nothing.

Without a step of this module both are kept, with the rewards they were given.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lit_rlhf.credit.base import Credited, CreditStep
from lit_rlhf.credit.counting import own, own_weight, refuse_single_samples, with_weight_zero
from lit_rlhf.errors import InputError
from lit_rlhf.functional.segment import sum_by
from lit_rlhf.losses.base import Metric
from lit_rlhf.losses.metrics import mean
from lit_rlhf.types import Rollout


@dataclass(frozen=True)
class MaskTruncated(CreditStep):
    """Cut completions get weight 0: they are in no statistic and no loss.

    See "DAPO" by Yu et al. (https://arxiv.org/abs/2503.14476), section 3.4 (overlong filtering).
    """

    gives: ClassVar[frozenset[str]] = frozenset({"weight"})

    def __call__(self, rollout: Rollout) -> Credited:
        cut = truncated(rollout, self)
        return Credited(with_weight_zero(rollout, cut), (share("masked_truncated", cut, rollout),))


@dataclass(frozen=True)
class PenaliseTruncated(CreditStep):
    """The reward of cut completions is lowered: r - penalty.

    Args:
        penalty: what not ending costs, in units of the reward.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"reward"})

    penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.penalty > 0:
            raise InputError(f"PenaliseTruncated.penalty is {self.penalty}; it is positive, and subtracted from the reward")

    def __call__(self, rollout: Rollout) -> Credited:
        cut = truncated(rollout, self)
        reward = rollout.reward - self.penalty * cut.to(rollout.reward.dtype)
        return Credited(dataclasses.replace(rollout, reward=reward), (share("penalised_truncated", cut, rollout),))


@dataclass(frozen=True)
class DropConstantGroups(CreditStep):
    """Groups whose rewards are all equal get weight 0: they have no gradient, and would count in what it is divided by.

    See "DAPO" by Yu et al. (https://arxiv.org/abs/2503.14476), section 3.2, for filling their places with new prompts.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"group"})
    gives: ClassVar[frozenset[str]] = frozenset({"weight"})

    def __call__(self, rollout: Rollout) -> Credited:
        refuse_single_samples(rollout, self)
        constant = constant_groups(rollout)
        dropped = with_weight_zero(rollout, constant[rollout.sequences.prompt_of])
        counts = sum_by(own(rollout).to(rollout.reward.dtype), rollout.sequences.prompt_of, len(constant)) > 0
        return Credited(dropped, (mean("dropped_groups", constant.to(rollout.reward.dtype), counts),))


def constant_groups(rollout: Rollout) -> Tensor:
    """[N] bool: no two of the prompt's samples that count differ in reward, so they say nothing of which is better."""
    rows, count = own(rollout).nonzero()[:, 0], len(rollout.sequences.prompt_lengths)
    reward, group = rollout.reward[rows], rollout.sequences.prompt_of[rows]
    extremes = (reward.new_zeros(count).scatter_reduce(0, group, reward, of, include_self=False) for of in ("amin", "amax"))
    return torch.eq(*extremes)


def truncated(rollout: Rollout, step: CreditStep) -> Tensor:
    """[S] bool: cut, and not ended by the stop set.

    Raises:
        InputError: the rollout does not say.
    """
    if rollout.finished is None:
        raise InputError(f"{type(step).__name__} asks what was cut, and this rollout does not say; leave it out")
    return ~rollout.finished


def share(name: str, chosen: Tensor, rollout: Rollout) -> Metric:
    """Weighted share of the `chosen` [S] among the policy's own sequences."""
    weight = own_weight(rollout)
    return mean(name, chosen.to(weight.dtype), weight)
