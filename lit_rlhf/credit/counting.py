"""Which sequences and tokens of a rollout count, and what crosses between the two."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional.segment import counted, owner, segment_sum, sum_by
from lit_rlhf.types import Rollout


def own(rollout: Rollout) -> Tensor:
    """[S] bool: drawn from the policy, and of a weight other than 0. Only these enter a statistic."""
    counts = rollout.sequence_weight != 0
    return counts if rollout.opponent is None else counts & ~rollout.opponent


def own_weight(rollout: Rollout) -> Tensor:
    """[S] the weight of the policy's own sequences, 0 of others."""
    return torch.where(own(rollout), rollout.sequence_weight, 0.0)


def own_token_weight(rollout: Rollout) -> Tensor:
    """[T] the weight of the tokens of the policy's own sequences, 0 of others."""
    return torch.where(own(rollout)[owner(rollout.sequences.completion_lengths)], rollout.token_weight, 0.0)


def totals(rollout: Rollout) -> Tensor:
    """[S] the reward and the token rewards of each sequence; 0 of those that do not count."""
    reward = rollout.reward
    if rollout.token_reward is not None:
        tokens = counted(rollout.token_reward, rollout.sequences.token_weight)
        reward = reward + segment_sum(tokens, rollout.sequences.completion_lengths)
    return torch.where(own(rollout), reward, 0.0)


def constant_over_tokens(rollout: Rollout, values: Tensor) -> Tensor:
    """[T] every token has its sequence's value [S]."""
    return values[owner(rollout.sequences.completion_lengths)]


def with_weight_zero(rollout: Rollout, dropped: Tensor) -> Rollout:
    """The rollout where the `dropped` [S] sequences count for nothing."""
    return dataclasses.replace(rollout, weight=torch.where(dropped, 0.0, rollout.sequence_weight))


def refuse_single_samples(rollout: Rollout, step: object) -> None:
    """Raises: InputError: a prompt was given one sample only, where the step compares those of a group."""
    drawn = torch.ones_like(rollout.reward, dtype=torch.bool) if rollout.opponent is None else ~rollout.opponent
    size = sum_by(drawn.long(), rollout.sequences.prompt_of, len(rollout.sequences.prompt_lengths))
    if bool((size == 1).any()):
        raise InputError(
            f"{type(step).__name__} compares the samples of a prompt, and a prompt has one only; "
            "set group_size to 2 or more"
        )


@dataclass(frozen=True)
class Timeline:
    """The tokens on which time runs: those of weight other than 0; the others (what a tool said) are skipped."""

    tokens: Tensor
    """[n] their indices among the T tokens."""
    lengths: Tensor
    """[S] how many each sequence has, possibly none."""
    size: int
    """T"""

    @classmethod
    def of(cls, rollout: Rollout) -> Timeline:
        """The timeline of a rollout."""
        takes_part = rollout.sequences.token_weight != 0
        lengths = segment_sum(takes_part.long(), rollout.sequences.completion_lengths)
        return cls(takes_part.nonzero()[:, 0], lengths, len(takes_part))

    def back(self, values: Tensor) -> Tensor:
        """[T] the `values` [n] in their places, 0 at the tokens that were skipped."""
        return values.new_zeros(self.size).index_copy(0, self.tokens, values)
