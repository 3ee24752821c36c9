"""What a named algorithm makes of a small rollout: its credit steps, its pairs and its head, without any model."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.algorithms.pairing import Collected
from lit_rlhf.components.actor import Actor
from lit_rlhf.credit.base import credited
from lit_rlhf.rewards.reviews import ReviewReward
from lit_rlhf.types import Evidence, PreferenceBatch, Rollout, Sequences, TokenLogps

LENGTHS = (2, 1, 3, 1, 2, 3)
"""Of the completions; the first three answer one prompt, the others another."""
GROUPS = ((0, 1, 2), (3, 4, 5))
REWARD = (0.5, -1.0, 1.5, 0.2, -0.3, 0.9)
OWNER = [k for k, length in enumerate(LENGTHS) for _ in range(length)]
TOKENS = sum(LENGTHS)


def made(cls: type[OnlineAlgorithm], **options) -> OnlineAlgorithm:
    """The class with nothing but what it cannot do without."""
    return cls(Actor("lit_rlhf/reviews"), reward=ReviewReward(), **options)


def logps(seed: int) -> Tensor:
    """[T] log-probs between -2 and 0."""
    return -2 * torch.rand(TOKENS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rollout(**changes) -> Rollout:
    """With a reference and a critic's values, in double precision."""
    one = torch.tensor([1, 1])
    sequences = Sequences(one, one, torch.arange(TOKENS), torch.tensor(LENGTHS), torch.tensor([0, 0, 0, 1, 1, 1]))
    reward = torch.tensor(REWARD, dtype=torch.float64)
    known = {"behaviour": logps(0), "reward": reward, "reference": logps(1), "values": -logps(2)}
    return Rollout(sequences, **(known | changes))


def credit(algorithm: OnlineAlgorithm, given: Rollout) -> Rollout:
    """The rollout after the algorithm's steps."""
    return credited(given, algorithm.credit).rollout


def pairs(algorithm: OnlineAlgorithm, given: Rollout, draw: int = 0) -> PreferenceBatch:
    """The pairs that the algorithm's head reads in an iteration."""
    return algorithm.pairs(Collected(given, (), torch.arange(2), draw))


def loss(algorithm: OnlineAlgorithm, batch: Rollout | PreferenceBatch, policy: Tensor, **evidence) -> float:
    """One update's loss where the policy now gives these log-probs [T]."""
    drawn = batch.drawn if isinstance(batch, PreferenceBatch) else batch
    seen = Evidence(TokenLogps(policy, evidence.pop("entropy", None)), reference=drawn.reference, **evidence)
    output = algorithm.loss(seen, batch)
    return sum((term.total / batch.count(term.unit)).item() for term in output.terms)


def tokens(sequence: int) -> list[int]:
    """The places of a completion's tokens."""
    return [t for t in range(TOKENS) if OWNER[t] == sequence]


def total(values: Tensor, sequence: int) -> float:
    """The sum of [T] values over a completion."""
    return sum(values[t].item() for t in tokens(sequence))


def mean(values) -> float:
    values = list(values)
    return math.fsum(values) / len(values)


def clipped(ratio: float, advantage: float, low: float = 0.2, high: float = 0.2) -> float:
    """PPO's objective of a token."""
    return min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)
