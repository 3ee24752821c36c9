"""Samplers and rewards of tables: draws from the exact law, or every group there is with its probability."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_rlhf.rewards.base import Response, Reward, Scores
from lit_rlhf.sampling.base import Sampler
from lit_rlhf.sampling.mixture import parts_of, policy_of
from lit_rlhf.sampling.processing import Processing
from lit_rlhf.theory.tabular import Tree
from lit_rlhf.types import Kept, Law, Prompts, Samples


class TableReward(Reward):
    """The reward of a problem's responses, exactly."""

    name = "table"

    def __init__(self, problem: Any) -> None:
        self._known = dict(zip(problem.tree.responses, problem.reward.tolist(), strict=True))

    def __call__(self, responses: Sequence[Response]) -> Scores:
        return Scores(torch.tensor([self._known[response.ids] for response in responses], dtype=torch.float64))


class TableSampler(Sampler):
    """Draws whole responses from the exact law of a table, or gives the groups it is told to.

    Args:
        tree: of the responses.
        processing: from logits to the law of a token, as the composition's own sampler has it.
        seed: of the draws.
    """

    stop, batch_tokens = (), 2**30

    def __init__(self, tree: Tree, processing: Processing, seed: int = 0) -> None:
        self.tree, self.processing, self.seed = tree, processing, seed
        self.max_new_tokens = int(tree.lengths.max())
        self.told: dict[int, Tensor] = {}
        """[N, K] responses that the next calls give instead of drawing: 0 the policy's own, 1 those of an opponent."""

    def sample(self, policy: Any, prompts: Prompts, group_size: int, draw: int) -> Samples:
        with torch.no_grad():
            plain, acting, kept = self.laws(policy)
            members = self.told.get(draw % 2)
            if members is None:
                members = self._drawn(acting, len(prompts.records), group_size, draw)
        flat = members.flatten()
        tokens = self.tree.tokens(flat)
        states, ids = self.tree.states[tokens], self.tree.ids[tokens]
        law = None if self.processing.plain and policy_of(policy) is policy else self._law(kept, states)
        return Samples(
            self.tree.sequences(members), acting[states, ids], plain[states, ids],
            torch.ones(len(flat), dtype=torch.bool), law,
        )

    def laws(self, sampled: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """[width, V] log-probs of next tokens, of the policy and of what is sampled; [width, V] bool, those kept."""
        logits = sum(weight * model.net.weight.T.log_softmax(-1) for model, weight in parts_of(sampled))
        plain = policy_of(sampled).net.weight.T.log_softmax(-1)
        scaled = logits / self.processing.temperature
        if not self.processing.filters:
            return plain, scaled.log_softmax(-1), None
        kept = scaled >= self.processing.floor(scaled)[:, None]
        return plain, torch.where(kept, scaled, -torch.inf).log_softmax(-1), kept

    def log_law(self, sampled: Any) -> Tensor:
        """[n] of the responses that are sampled."""
        return self.tree.law(self.laws(sampled)[1])

    def _drawn(self, acting: Tensor, prompts: int, group_size: int, draw: int) -> Tensor:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + draw)
        law = self.tree.law(acting).exp().expand(prompts, -1)
        return torch.multinomial(law, group_size, replacement=True, generator=generator)

    def _law(self, kept: Tensor | None, states: Tensor) -> Law:
        if kept is None:
            return Law(self.processing.temperature)
        own = kept[states]
        return Law(self.processing.temperature, Kept(own.nonzero()[:, 1], own.sum(1)))


class Probe(TableSampler):
    """Draws nothing, and remembers the law that it was asked to draw from."""

    def sample(self, policy: Any, prompts: Prompts, group_size: int, draw: int) -> Samples:
        self.found = self.log_law(policy)
        return TableSampler(self.tree, self.processing).sample(policy, prompts, group_size, draw)


def multisets(n: int, size: int) -> tuple[Tensor, Tensor]:
    """[M, size] every multiset of so many of n responses, and [M] the log of the number of its orders."""
    members = torch.tensor(list(itertools.combinations_with_replacement(range(n), size)))
    counts = torch.stack([(members == one).sum(1) for one in range(n)], dim=1)
    orders = math.lgamma(size + 1) - torch.lgamma(counts.double() + 1).sum(1)
    return members, orders
