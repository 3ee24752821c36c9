"""What heads read of the evidence: implicit rewards of completions, and the parts they cannot do without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional import segment
from lit_rlhf.functional.udrra import implicit_reward, over_completions
from lit_rlhf.types import Batch, Evidence, PreferenceBatch, Rollout, ScoredBatch

Reduce = Literal["sum", "mean"]
"""Whether the log-ratios of a completion's tokens are added or averaged (length normalisation)."""


def temperature(evidence: Evidence, tau: float) -> Tensor | float:
    """The learned temperature where there is one, else the head's."""
    return tau if evidence.tau is None else evidence.tau


def positive(value: float, owner: object, name: str = "tau") -> None:
    """Raises: InputError: a temperature that is not positive."""
    if not value > 0:
        raise InputError(f"{type(owner).__name__}.{name} is {value}; it is a positive number")


def rate(value: float, owner: object, name: str) -> None:
    """Raises: InputError: a rate of wrong labels outside [0, 1/2)."""
    if not 0 <= value < 0.5:
        raise InputError(f"{type(owner).__name__}.{name} is {value}; it is a rate in [0, 1/2)")


def one_of(choices: Any, value: str, owner: object, name: str) -> None:
    """Raises: InputError: a value that is none of a Literal's."""
    if value not in get_args(choices):
        raise InputError(f"{type(owner).__name__}.{name} is {value!r}; it is one of {', '.join(get_args(choices))}")


def counted(values: Tensor, batch: Batch) -> Tensor:
    """[T] `values` of the tokens that count, 0 elsewhere: what is not trained on reaches no sum, not even as NaN."""
    weight = batch.sequences.weight
    return values if weight is None else segment.counted(values, weight)


def policy_logps(evidence: Evidence, batch: Batch) -> Tensor:
    """[T] log pi of the tokens that count."""
    return counted(required(evidence, "policy").values, batch)


def acting_logps(evidence: Evidence, batch: Batch) -> Tensor:
    """[T] log pi of the tokens that count, under the law that sampled them: what a ratio to the behaviour is made of.

    Raises:
        InputError: the batch was sampled under a law of its own, and the policy was not scored under it.
    """
    policy, rollout = required(evidence, "policy"), drawn(batch)
    if policy.acting is None and rollout is not None and rollout.law is not None:
        raise InputError(
            "the rollout was sampled at its own temperature or from filtered tokens, and the policy was scored without "
            "them; ask for token_logps(..., law=rollout.law)"
        )
    return counted(policy.values if policy.acting is None else policy.acting, batch)


def drawn(batch: Batch) -> Rollout | None:
    """The rollout that the batch is, or was made of; None where its sequences were given."""
    return batch if isinstance(batch, Rollout) else getattr(batch, "drawn", None)


def behaviour_logps(batch: Batch, owner: object) -> Tensor:
    """[T] log-probs recorded with the rollout, of the tokens that count.

    Raises:
        InputError: there is no rollout.
    """
    rollout = drawn(batch)
    if rollout is None:
        raise InputError(
            f"{type(owner).__name__} reads the log-probabilities recorded with a rollout, and a "
            f"{type(batch).__name__} has none; train on rollouts, or choose a head of given data"
        )
    return counted(rollout.behaviour, batch)


def policy_statistic(evidence: Evidence, batch: Batch, name: str) -> Tensor:
    """[T] `entropy` or `collision` of the policy at the tokens that count.

    Raises:
        InputError: it was not asked for.
    """
    value = getattr(required(evidence, "policy"), name)
    if value is None:
        raise InputError(f"the head reads the policy's {name}; ask for it with token_logps(..., {name}=True)")
    return counted(value, batch)


def token_rewards(evidence: Evidence, batch: Batch, tau: Tensor | float) -> Tensor:
    """[T] tau * log(pi / u) of the tokens that count; u = 1 without a reference."""
    reference = None if evidence.reference is None else counted(evidence.reference, batch)
    return implicit_reward(policy_logps(evidence, batch), reference, tau)


def completion_logps(evidence: Evidence, batch: Batch, reduce: Reduce = "sum") -> Tensor:
    """[S] log pi of the trained tokens, added or averaged, in nats."""
    sequences = batch.sequences
    values = policy_logps(evidence, batch)
    return over_completions(values, sequences.token_weight.to(values.dtype), sequences.completion_lengths, reduce)


def completion_rewards(evidence: Evidence, batch: Batch, tau: Tensor | float, reduce: Reduce = "sum") -> Tensor:
    """[S] tau * log(pi / u) of the trained tokens, added or averaged; u = 1 without a reference."""
    sequences = batch.sequences
    tokens = token_rewards(evidence, batch, tau)
    return over_completions(tokens, sequences.token_weight.to(tokens.dtype), sequences.completion_lengths, reduce)


def required(source: Evidence | Batch, field: str):
    """A field of the evidence or the batch.

    Raises:
        InputError: it is not there.
    """
    value = getattr(source, field, None)
    if value is None:
        why = "the composition has no part that gives it" if isinstance(source, Evidence) else "this batch has none"
        raise InputError(f"the head reads {field!r}, and {why}")
    return value


def ends(values: Tensor, batch: PreferenceBatch) -> tuple[Tensor, Tensor]:
    """[E], [E] the `values` [S] of the chosen and the rejected ends; 0 for pairs of weight 0."""
    weight = batch.pair_weight
    return segment.counted(values[batch.chosen], weight), segment.counted(values[batch.rejected], weight)


def reward_gaps(batch: PreferenceBatch) -> Tensor:
    """[E] what the data say of the rewards' difference; 0 for pairs of weight 0.

    Raises:
        InputError: they say nothing.
    """
    return segment.counted(required(batch, "reward_gap"), batch.pair_weight)


@dataclass(frozen=True)
class Responses:
    """The n responses of a scored batch or a rollout that count; those of weight 0 are in no group and no sum."""

    rows: Tensor
    """[n] their indices among the S sequences."""
    implicit: Tensor
    """[n] tau * log(pi / u)."""
    reward: Tensor
    """[n]"""
    weight: Tensor
    """[n] scales their terms; in the statistics of a group each response counts once."""
    prompt: Tensor
    """[n] index in 0..N-1."""
    prompts: int
    """N"""

    @property
    def size(self) -> Tensor:
        """[n] K, the responses to the same prompt."""
        return segment.sum_by(torch.ones_like(self.implicit), self.prompt, self.prompts)[self.prompt]

    def mean(self, values: Tensor) -> Tensor:
        """[n] the mean of `values` [n] over the responses to the same prompt."""
        return segment.mean_by(values, self.prompt, self.prompts)[self.prompt]

    def refuse_singles(self, head: object) -> None:
        """Raises: InputError: a prompt has a single response where the head compares those of a group."""
        if bool((self.size < 2).any()):
            raise InputError(
                f"{type(head).__name__} compares the responses of a prompt, and a prompt has one only; "
                "it needs two or more each"
            )


def responses(
    evidence: Evidence, batch: ScoredBatch | Rollout, tau: Tensor | float, reduce: Reduce = "sum"
) -> Responses:
    """The responses that count, with their implicit rewards."""
    rows = (batch.sequence_weight != 0).nonzero()[:, 0]
    sequences, implicit = batch.sequences, completion_rewards(evidence, batch, tau, reduce)
    return Responses(
        rows, implicit[rows], batch.reward[rows], batch.sequence_weight[rows], sequences.prompt_of[rows],
        len(sequences.prompt_lengths),
    )
