"""Rollouts for tests of credit steps, in double precision: N = 3 prompts, S = 8 completions, T = 20 tokens.

Sequences are not in the order of their prompts. Three tokens are not trained on; sequence 6 has weight 0. What does not
count is NaN.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lit_rlhf.credit.base import Credited
from lit_rlhf.types import Rollout, Sequences

LENGTHS = (3, 1, 4, 2, 5, 1, 1, 3)
PROMPT_OF = (2, 0, 1, 0, 2, 1, 1, 2)
REWARD = (0.5, -1.0, 1.5, 0.2, -0.3, 2.0, torch.nan, 0.9)
WEIGHT = (1.0, 1.0, 2.0, 1.0, 0.5, 1.0, 0.0, 1.0)
FINISHED = (True, True, False, True, False, True, True, True)
UNTRAINED = (1, 6, 14)
LEFT_OUT = 6
TOKENS = sum(LENGTHS)
OWNER = [k for k, length in enumerate(LENGTHS) for _ in range(length)]
TRAINED = [t for t in range(TOKENS) if t not in UNTRAINED]
COUNTED = [k for k in range(len(LENGTHS)) if k != LEFT_OUT]


def double(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sequences() -> Sequences:
    weight = torch.ones(TOKENS, dtype=torch.float64).index_fill(0, torch.tensor(UNTRAINED), 0.0)
    return Sequences(
        torch.zeros(4, dtype=torch.long), torch.tensor([1, 2, 1]), torch.arange(TOKENS), torch.tensor(LENGTHS),
        torch.tensor(PROMPT_OF), weight,
    )


def rollout(seed: int = 0, **changes) -> Rollout:
    """With a reference and a critic's values."""
    draw = torch.Generator().manual_seed(seed)
    behaviour, reference, values = (-torch.rand(TOKENS, generator=draw, dtype=torch.float64) for _ in range(3))
    for one in (behaviour, reference, values):
        one[list(UNTRAINED)] = torch.nan
    made = Rollout(
        sequences(), behaviour, double(REWARD), reference, values, weight=double(WEIGHT), finished=torch.tensor(FINISHED)
    )
    return dataclasses.replace(made, **changes)


def tokens_of(sequence: int) -> list[int]:
    """The trained tokens of a sequence."""
    return [t for t in TRAINED if OWNER[t] == sequence]


def mates_of(sequence: int) -> list[int]:
    """The sequences of the same prompt that count, itself included."""
    return [k for k in COUNTED if PROMPT_OF[k] == PROMPT_OF[sequence]]


def metric(done: Credited, name: str) -> float:
    (found,) = (one for one in done.metrics if one.name == name)
    return (found.total / found.weight).item()
