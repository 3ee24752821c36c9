"""Our side of the comparison of losses: a head on the log-probs of a `Bigram`, divided as the regime divides it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from bigram import Bigram, Row
from torch import Tensor

from lit_rlhf.data.collation import Signal, collate
from lit_rlhf.data.records import Group, Pair
from lit_rlhf.functional.segment import segment_sum
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.unpaired import Anchor
from lit_rlhf.types import Batch, Evidence, Sequences, TokenLogps

TAU = 0.3
EXACT = 1e-12
"""Relative difference of one function computed twice in float64."""
ROUNDED = 1e-6
"""The same where one side keeps a number in float32: TRL EXO's epsilon and ORPO's log-probs, ours LD-DPO's alpha."""


@dataclass(frozen=True)
class Mismatched(Anchor):
    """KTO's paper and TRL: z = max(0, mean_i tau log(pi/u)(y_{i-1} | x_i)), each prompt with another's response."""

    z: float

    def columns(self, reward: Tensor, label: Tensor) -> Tensor:
        return reward[:, None]

    def value(self, means: Tensor) -> Tensor:
        return torch.full_like(means[0], self.z)


@dataclass(frozen=True)
class Case:
    """One loss on both sides."""

    name: str
    head: LossHead
    trainer: str
    """DPO, KTO, CPO or ORPO."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of TRL's configuration."""
    less: dict[str, Any] | None = None
    """Where given: TRL's loss with `options` less TRL's loss with these."""
    note: str = ""
    """Where the two differ, why. Empty: they are the same function."""
    signal: Signal = "preference"
    dtype: torch.dtype = torch.float64
    tolerance: float = EXACT

    def our_loss(self, rows: list[Row], policy: Bigram, reference: Bigram) -> Tensor:
        """[] every term over the count of its unit, as the regime divides it."""
        batch = precise(collate([group_of(row) for row in rows], self.signal), self.dtype)
        evidence = evidence_of(batch, policy, reference if self.trainer in ("DPO", "KTO") else None)
        output = self.anchored(rows, policy, reference)(evidence, batch)
        return sum(term.total / batch.count(term.unit) for term in output.terms)

    def anchored(self, rows: list[Row], policy: Bigram, reference: Bigram) -> LossHead:
        """The head, with the anchor of mismatched pairs where it asks for that."""
        if not isinstance(getattr(self.head, "anchor", None), Mismatched):
            return self.head
        return dataclasses.replace(self.head, anchor=Mismatched(mismatched_reward(rows, policy, reference)))


def mismatched_reward(rows: list[Row], policy: Bigram, reference: Bigram) -> float:
    """max(0, mean tau log(pi/u)) of every prompt with the response before its own, the last for the first."""
    labelled = [(row[0], row[1 + side]) for row in rows for side in (0, 1)]
    crossed = [
        Group(np.array(prompt), (np.array(labelled[place - 1][1]),)) for place, (prompt, _) in enumerate(labelled)
    ]
    sequences = collate(crossed, "demonstration").sequences
    with torch.no_grad():
        ratio = token_logps(policy, sequences) - token_logps(reference, sequences)
        return float(TAU * segment_sum(ratio, sequences.completion_lengths).mean().clamp_min(0))


def group_of(row: Row) -> Group:
    prompt, chosen, rejected = (np.array(ids) for ids in row)
    return Group(prompt, (chosen, rejected), labels=(1.0, 0.0), pairs=(Pair(0, 1),))


def precise(batch: Batch, dtype: torch.dtype) -> Batch:
    """Labels in the precision of the comparison, so that 0.9 is not that of float32."""
    named = {name: getattr(batch, name) for name in ("probability", "reward") if hasattr(batch, name)}
    return dataclasses.replace(batch, **{name: value.to(dtype) for name, value in named.items()})


def evidence_of(batch: Batch, policy: Bigram, reference: Bigram | None) -> Evidence:
    with torch.no_grad():
        base = None if reference is None else token_logps(reference, batch.sequences)
    collision = next_token_logps(policy, batch.sequences).detach().mul(2).logsumexp(-1)
    return Evidence(TokenLogps(token_logps(policy, batch.sequences), collision=collision), base)


def token_logps(model: Bigram, sequences: Sequences) -> Tensor:
    """[T] log-probs of completion tokens, each given the token before it."""
    return next_token_logps(model, sequences).gather(1, sequences.completion_ids[:, None])[:, 0]


def next_token_logps(model: Bigram, sequences: Sequences) -> Tensor:
    """[T, V] log-probs of every token in the place of each completion token."""
    last = sequences.prompt_ids[sequences.prompt_lengths.cumsum(0) - 1][sequences.prompt_of]
    before = sequences.completion_ids.roll(1)
    before[sequences.completion_lengths.cumsum(0) - sequences.completion_lengths] = last
    return model.weight[before].log_softmax(-1)
