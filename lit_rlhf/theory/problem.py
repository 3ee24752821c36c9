"""A world whose responses are strings of tokens with prefixes in common, and what data say of it, in expectation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from lightning import LightningDataModule
from torch import Tensor

from lit_rlhf.data.collation import Signal
from lit_rlhf.theory.residual import bradley_terry, edge_weights, independent
from lit_rlhf.theory.sampling import multisets
from lit_rlhf.theory.tabular import Tree
from lit_rlhf.theory.worlds import World
from lit_rlhf.types import Batch, PreferenceBatch, ScoredBatch, Sequences

Labels = Literal["soft", "sampled", "hard"]
"""Probabilities; both outcomes with their probabilities; the better one wins (1/2 where they are equal)."""
RESPONSES = ((2,), (0, 2), (1, 0, 2), (1, 1, 2), (0, 0, 1, 2), (1, 2))
"""Token ids: two words, and 2 ends a response. They have one to four tokens."""
LARGEST_GROUP = 4
"""Scored responses that are gone through together: there are 126 multisets of four of six responses."""


@dataclass(frozen=True)
class Problem(World):
    """n responses to one prompt, and the law of the data."""

    responses: tuple[tuple[int, ...], ...] = RESPONSES
    law: Tensor | None = None
    """[n] mu, of a response of the data; u where None."""
    pair_law: Tensor | None = None
    """[n, n] rho, of an ordered pair of the data; that of two independent responses where None."""

    @staticmethod
    def drawn(seed: int = 0, scale: float = 1.0) -> Problem:
        """Rewards of mean 0 and standard deviation `scale`, and a base law, by seed; the data are the base law's."""
        generator, n = torch.Generator().manual_seed(seed), len(RESPONSES)
        noise = torch.randn(2, n, generator=generator, dtype=torch.float64)
        reward = scale * (noise[0] - noise[0].mean()) / noise[0].std(correction=0)
        return Problem(reward, noise[1].log_softmax(-1), torch.tensor([len(ids) for ids in RESPONSES]))

    @cached_property
    def tree(self) -> Tree:
        """Of the responses."""
        return Tree(self.responses)

    @property
    def mu(self) -> Tensor:
        """[n] the law of the data."""
        return self.log_base.exp() if self.law is None else self.law

    @property
    def rho(self) -> Tensor:
        """[n, n] the law of pairs of different responses, symmetric, 0 on its diagonal."""
        edges = edge_weights(independent(self.mu) if self.pair_law is None else self.pair_law)
        return edges / edges.sum()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the responses: letters, and a stop for the end."""
        return tuple("".join("ab."[token] for token in ids) for ids in self.responses)

    def sequences(self, drawn: Tensor | None = None) -> Sequences:
        return self.tree.sequences(torch.arange(self.n)[None] if drawn is None else drawn)

    def batch(self, signal: Signal, labels: Labels, group: int = 0) -> Batch:
        """What a head reads of the data, in expectation.

        Args:
            signal: which feedback: as the built-in task gives it, on responses of mu.
            labels: of pairs, and of single responses, which are good with probability sigma(r - E r).
            group: scored responses come in groups of so many draws from mu, all of which are gone through; 0 weighs
                each response by mu.
        """
        if signal in ("gap", "preference"):
            return self.labelled(labels)
        if signal == "demonstration":
            return self.scored((self.mu.log() + self.reward).softmax(-1), torch.ones_like(self.reward))
        if signal == "label":
            gap = self.reward - self.reward @ self.mu
            return self.scored(self.mu, (gap > 0).double() if labels == "hard" else torch.sigmoid(gap))
        if not group:
            return self.scored(self.mu)
        members, orders = multisets(self.n, group)
        weight = (orders + self.mu.log()[members].sum(1)).exp()
        kept = weight > 0
        members, weight = members[kept], weight[kept]
        return ScoredBatch(self.sequences(members), self.reward[members.flatten()], weight.repeat_interleave(group))

    def labelled(self, labels: Labels) -> PreferenceBatch:
        """Every pair of the data with its weight."""
        p = bradley_terry(self.reward)
        if labels == "soft":
            return self.pairs(self.rho)
        batch = self.pairs(self.rho, p if labels == "sampled" else (1 + torch.sign(p - 0.5)) / 2, "drawn")
        kept = batch.weight > 0
        return PreferenceBatch(
            batch.sequences, batch.chosen[kept], batch.rejected[kept], batch.probability[kept], batch.reward_gap[kept],
            batch.weight[kept],
        )

    def but(self, **changes: Tensor) -> Problem:
        """The same with other fields."""
        return dataclasses.replace(self, **changes)

    def texts(self) -> Texts:
        """Demonstrations as a data module."""
        return Texts(self)


class Texts(LightningDataModule):
    """What a `Ptx` reads: the same demonstrations, in expectation, for every update."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem

    def item(self, update: int, rank: int, ranks: int) -> tuple[Batch, ...]:
        """One batch."""
        return (self.problem.batch("demonstration", "soft"),)
