"""Ragged batches for tests of heads, in double precision: N = 4 prompts, S = 9 completions, T = 23 tokens, E = 6 pairs.

Two tokens count half and three not at all. Sequences are not in the order of their prompts; one is in several pairs;
labels are hard, soft and a tie; pairs and sequences weigh differently.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from lit_rlhf.losses.base import LossHead
from lit_rlhf.types import Batch, Evidence, PreferenceBatch, ScoredBatch, Sequences, TokenLogps

LENGTHS = (3, 1, 4, 2, 5, 1, 2, 3, 2)
PROMPT_OF = (2, 0, 1, 0, 3, 1, 2, 0, 3)
EDGES = ((1, 3), (7, 1), (3, 7), (2, 5), (6, 0), (4, 8))
PROBABILITY = (1.0, 0.3, 0.5, 0.8, 1.0, 0.65)
GAP = (0.4, -1.2, 0.0, 1.5, 2.5, -0.3)
PAIR_WEIGHT = (1.0, 0.5, 2.0, 1.5, 1.0, 3.0)
REWARD = (0.5, -1.0, 1.5, 0.2, -0.3, 2.0, -0.8, 0.9, 0.1)
LABEL = (1.0, 0.0, 1.0, 0.25, 0.0, 1.0, 0.0, 1.0, 0.0)
LAW = (1.0, 0.5, 2.0, 0.5, 1.5, 2.0, 1.0, 0.5, 1.5)
UNTRAINED, HALF = (2, 9, 20), (0, 12)
TOKENS = sum(LENGTHS)


def token_weight() -> Tensor:
    weight = torch.ones(TOKENS, dtype=torch.float64)
    return weight.index_fill(0, torch.tensor(UNTRAINED), 0.0).index_fill(0, torch.tensor(HALF), 0.5)


def sequences(weighted: bool = True) -> Sequences:
    prompts = torch.tensor([2, 1, 3, 1])
    return Sequences(
        torch.arange(int(prompts.sum())),
        prompts,
        torch.arange(TOKENS),
        torch.tensor(LENGTHS),
        torch.tensor(PROMPT_OF),
        token_weight() if weighted else None,
    )


def pairs(weighted: bool = True, **changes) -> PreferenceBatch:
    chosen, rejected = torch.tensor(EDGES).T
    law = double(PAIR_WEIGHT) if weighted else None
    batch = PreferenceBatch(sequences(weighted), chosen, rejected, double(PROBABILITY), double(GAP), law)
    return dataclasses.replace(batch, **changes)


def scored(values=REWARD, weighted: bool = True, **changes) -> ScoredBatch:
    batch = ScoredBatch(sequences(weighted), double(values), double(LAW) if weighted else None)
    return dataclasses.replace(batch, **changes)


def evidence(reference: bool = True, seed: int = 0, **changes) -> Evidence:
    """Log-probs as leaves; what is not trained on is NaN."""
    draw = torch.Generator().manual_seed(seed)
    policy, base, collision = (-torch.rand(TOKENS, generator=draw, dtype=torch.float64) - 0.05 for _ in range(3))
    for values in (policy, base, collision):
        values[list(UNTRAINED)] = torch.nan
    made = Evidence(TokenLogps(policy.requires_grad_(), collision=collision), base if reference else None)
    return dataclasses.replace(made, **changes)


def whole(values: Tensor, lengths=LENGTHS, weight=None, reduce: str = "sum") -> list[float]:
    """Token values added or averaged over each completion, by a loop."""
    weight = token_weight().tolist() if weight is None else weight
    found, place = [], 0
    for length in lengths:
        tokens = [
            (w, v)
            for w, v in zip(weight[place : place + length], values.tolist()[place : place + length], strict=True)
            if w
        ]
        total, mass = sum(w * v for w, v in tokens), sum(w for w, _ in tokens)
        found.append(total if reduce == "sum" else total / mass)
        place += length
    return found


def log_ratios(seen: Evidence, reduce: str = "sum") -> list[float]:
    """log(pi/u) of every completion, by a loop."""
    policy = seen.policy.values.detach()
    return whole(policy if seen.reference is None else policy - seen.reference, reduce=reduce)


def total(head: LossHead, seen: Evidence, batch: Batch) -> float:
    (term,) = head(seen, batch).terms
    return term.total.item()


def gradient(head: LossHead, seen: Evidence, batch: Batch) -> Tensor:
    """[T] of the summed terms by the policy's log-probs."""
    return torch.autograd.grad(sum(term.total for term in head(seen, batch).terms), seen.policy.values)[0]


def metric(head: LossHead, seen: Evidence, batch: Batch, name: str) -> float:
    (found,) = (one for one in head(seen, batch).metrics if one.name == name)
    return (found.total / found.weight).item()


def softplus(x: float) -> float:
    """log(1 + e^x) = -log sigma(-x)."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def double(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def bandit(theta: Tensor, reference: Tensor | None, drawn: list[int], reward: Tensor) -> tuple[Evidence, ScoredBatch]:
    """One prompt and completions of one token: `drawn` are responses of the policy softmax(theta)."""
    which = torch.tensor(drawn)
    seen = Evidence(TokenLogps(theta.log_softmax(0)[which]), None if reference is None else reference.log()[which])
    lone = Sequences(
        torch.zeros(1, dtype=torch.long), torch.tensor([1]), which, torch.ones_like(which), torch.zeros_like(which)
    )
    return seen, ScoredBatch(lone, reward[which])
