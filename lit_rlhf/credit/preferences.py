"""Rewards that are win probabilities: P(y preferred to y') = sigma((r(y) - r(y')) / scale), by Bradley and Terry."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from lit_rlhf.credit.base import Credited, CreditStep
from lit_rlhf.credit.counting import own, own_weight, refuse_single_samples, with_weight_zero
from lit_rlhf.errors import InputError
from lit_rlhf.functional.advantages import win_rates
from lit_rlhf.functional.segment import sum_by
from lit_rlhf.losses.evidence import positive
from lit_rlhf.losses.metrics import mean
from lit_rlhf.types import Rollout


@dataclass(frozen=True)
class WinRate(CreditStep):
    """r_k <- mean_{j != k} P(y_k preferred to y_j) over a prompt's samples; 1/2 where all the others were left out.

    See "Self-Play Preference Optimization" by Wu et al. (https://arxiv.org/abs/2405.00675): its estimate of
    P(y preferred to pi), without y's comparison to itself.

    Args:
        scale: difference of rewards that wins with probability sigma(1).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"group"})
    gives: ClassVar[frozenset[str]] = frozenset({"reward"})

    scale: float = 1.0

    def __post_init__(self) -> None:
        positive(self.scale, self, "scale")

    def __call__(self, rollout: Rollout) -> Credited:
        refuse_single_samples(rollout, self)
        rows, prompts = own(rollout).nonzero()[:, 0], len(rollout.sequences.prompt_lengths)
        reward, group = rollout.reward[rows], rollout.sequences.prompt_of[rows]
        size = sum_by(torch.ones_like(reward), group, prompts)[group]
        rate = win_rates(reward, group, reward, group, prompts, self.scale)
        others = torch.where(size > 1, (rate * size - 0.5) / (size - 1).clamp_min(1.0), 0.5)
        return Credited(dataclasses.replace(rollout, reward=rollout.reward.index_copy(0, rows, others)))


@dataclass(frozen=True)
class AgainstOpponents(CreditStep):
    """r_k <- mean_m P(y_k preferred to o_m) over the prompt's samples o_m of the opponent, which get weight 0.

    So does a sample all of whose opponents were left out. See "Nash Learning from Human Feedback" by Munos et al.
    (https://arxiv.org/abs/2312.00886; Nash-MD).

    Args:
        scale: difference of rewards that wins with probability sigma(1).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"opponent"})
    gives: ClassVar[frozenset[str]] = frozenset({"reward", "weight"})

    scale: float = 1.0

    def __post_init__(self) -> None:
        positive(self.scale, self, "scale")

    def __call__(self, rollout: Rollout) -> Credited:
        if rollout.opponent is None:
            raise InputError("AgainstOpponents compares with an opponent's samples, and there are none; set model.opponent")
        mine, theirs = own(rollout).nonzero()[:, 0], (rollout.opponent & (rollout.sequence_weight != 0)).nonzero()[:, 0]
        reward, group, prompts = rollout.reward, rollout.sequences.prompt_of, len(rollout.sequences.prompt_lengths)
        rate = win_rates(reward[mine], group[mine], reward[theirs], group[theirs], prompts, self.scale)
        replaced = dataclasses.replace(rollout, reward=reward.index_copy(0, mine, rate.nan_to_num(0.5)))
        alone = torch.zeros_like(rollout.opponent).index_copy(0, mine, rate.isnan())
        left = with_weight_zero(replaced, rollout.opponent | alone)
        return Credited(left, (mean("win_rate", left.reward, own_weight(left)),))
