"""A policy on a tree of seven responses: EOS at once, or one of two words and then EOS or a word."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rlhf.functional.segment import segment_sum
from lit_rlhf.types import Sequences

RESPONSES = ((0,), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2))
"""0 is EOS; the second token ends a response whatever it is."""
DRAW = torch.Generator().manual_seed(3)
THETA, BASE = (torch.randn(3, 3, generator=DRAW, dtype=torch.float64) for _ in range(2))
"""Logits after nothing (row 0) and after words 1 and 2."""
REWARD = torch.randn(len(RESPONSES), generator=DRAW, dtype=torch.float64)


def sequences(groups: list[tuple[int, ...]]) -> Sequences:
    """Responses by number, a prompt for every group."""
    drawn = [RESPONSES[k] for group in groups for k in group]
    return Sequences(
        torch.zeros(len(groups), dtype=torch.long), torch.ones(len(groups), dtype=torch.long),
        torch.tensor([token for ids in drawn for token in ids]), torch.tensor([len(ids) for ids in drawn]),
        torch.repeat_interleave(torch.tensor([len(group) for group in groups])),
    )


def logps(theta: Tensor, given: Sequences) -> Tensor:
    """[T] log pi of every token, differentiable."""
    return theta.log_softmax(-1)[states(given), given.completion_ids]


def states(given: Sequences) -> Tensor:
    """[T] the row of logits that each token was drawn from."""
    completions = given.completion_ids.split(given.completion_lengths.tolist())
    return torch.tensor([state for ids in completions for state in (0, *ids[:-1].tolist())])


def law(theta: Tensor) -> Tensor:
    """[7] log-probability of every response."""
    every = sequences([tuple(range(len(RESPONSES)))])
    return segment_sum(logps(theta, every), every.completion_lengths)


def objective(theta: Tensor, tau: float) -> Tensor:
    """[] E r - tau KL(pi || u), by enumeration."""
    log_pi = law(theta)
    return (log_pi.exp() * (REWARD - tau * (log_pi - law(BASE)))).sum()


def slope(value: Tensor, theta: Tensor) -> Tensor:
    return torch.autograd.grad(value, theta, retain_graph=True)[0]
