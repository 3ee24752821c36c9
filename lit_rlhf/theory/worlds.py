"""Worlds that can be enumerated: n responses to one prompt, whose exact expectations the real heads are evaluated on.

A batch holds every response, pair or group that there is, weighted by its probability, so that dividing a head's sums
by its counts, as training does, gives the expected loss.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lit_rlhf.functional.segment import owner
from lit_rlhf.losses.base import LossHead
from lit_rlhf.theory.residual import bradley_terry, differences
from lit_rlhf.types import Batch, Evidence, PreferenceBatch, Rollout, ScoredBatch, Sequences, TokenLogps

Labels = Literal["soft", "drawn"]
"""One pair with its probability, or both outcomes with theirs."""


@dataclass(frozen=True)
class World:
    """n responses y to one prompt. The tokens of a response are its number, and share its log-prob equally.

    Raises:
        ValueError: shapes disagree.
    """

    reward: Tensor
    """[n] float64."""
    log_base: Tensor | None = None
    """[n] log u; None is the prior form, u = 1."""
    lengths: Tensor | None = None
    """[n] tokens of each response; None is 1."""

    def __post_init__(self) -> None:
        for name in ("log_base", "lengths"):
            value = getattr(self, name)
            if value is not None and value.shape != self.reward.shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(self.reward.shape)}")

    @staticmethod
    def drawn(seed: int, n: int = 6, scale: float = 1.0, longest: int = 1) -> World:
        """Standard normal rewards times `scale`, u a softmax of standard normals, lengths of 1 to `longest`, by seed.
        """
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(2, n, generator=generator, dtype=torch.float64)
        lengths = torch.randint(1, longest + 1, (n,), generator=generator)
        return World(scale * noise[0], noise[1].log_softmax(-1), lengths)

    @property
    def n(self) -> int:
        """Responses."""
        return len(self.reward)

    @property
    def prior(self) -> World:
        """The same without a reference."""
        return dataclasses.replace(self, log_base=None)

    @property
    def uniform(self) -> Tensor:
        """[n] the uniform law."""
        return torch.full_like(self.reward, 1 / self.n)

    def sequences(self, drawn: Tensor | None = None) -> Sequences:
        """Responses [N, K] by their number, K to each of N copies of the prompt; all n, once, where None."""
        drawn = torch.arange(self.n)[None] if drawn is None else drawn
        flat, prompts = drawn.flatten(), torch.ones(len(drawn), dtype=torch.long)
        lengths = torch.ones_like(flat) if self.lengths is None else self.lengths[flat]
        group = torch.arange(len(drawn)).repeat_interleave(drawn.shape[1])
        return Sequences(torch.zeros_like(prompts), prompts, flat.repeat_interleave(lengths), lengths, group)

    def scored(self, law: Tensor | None = None, reward: Tensor | None = None) -> ScoredBatch:
        """Every response once, as one group, weighted by a law [n]; with rewards [n], the world's own where None.

        Labels of unpaired data, and the ones of demonstrations, go in the place of rewards.
        """
        return ScoredBatch(self.sequences(), self.reward if reward is None else reward, law)

    def pairs(self, rho: Tensor, p: Tensor | None = None, labels: Labels = "soft") -> PreferenceBatch:
        """Every pair of a law rho [n, n] of ordered pairs, with p [n, n] that the first is preferred; Bradley-Terry
        where None.
        """
        p = bradley_terry(self.reward) if p is None else p
        first, second = torch.triu_indices(self.n, self.n)
        weight = rho[first, second] + torch.where(first == second, 0.0, rho[second, first])
        seen = weight > 0
        first, second, weight = first[seen], second[seen], weight[seen]
        gap, known = differences(self.reward)[first, second], p[first, second]
        if labels == "soft":
            return PreferenceBatch(self.sequences(), first, second, known, gap, weight)
        both = torch.cat([weight * known, weight * (1 - known)])
        ends = torch.cat([first, second]), torch.cat([second, first])
        return PreferenceBatch(self.sequences(), *ends, torch.ones_like(both), torch.cat([gap, -gap]), both)

    def groups(self, law: Tensor, size: int) -> Rollout:
        """All n^K ordered groups of K independent draws from a law [n], each a prompt of its own weighted by its
        probability.
        """
        members = torch.cartesian_prod(*[torch.arange(self.n)] * size).view(-1, size)
        weight = law[members].prod(1).repeat_interleave(size)
        return dataclasses.replace(self.rollout(law, members), weight=weight)

    def rollout(self, law: Tensor, drawn: Tensor) -> Rollout:
        """Groups [N, K] of responses that a law [n] sampled."""
        sequences, flat = self.sequences(drawn), drawn.flatten()
        reference = None if self.log_base is None else self.per_token(self.log_base, sequences)
        return Rollout(
            sequences, self.per_token(law.log(), sequences), self.reward[flat], reference,
            finished=torch.ones(len(flat), dtype=torch.bool),
        )

    def per_token(self, log_law: Tensor, sequences: Sequences) -> Tensor:
        """[T] the log-probs [n] of responses, in equal parts."""
        lengths = sequences.completion_lengths
        return log_law[sequences.completion_ids] / lengths[owner(lengths)]

    def evidence(self, logits: Tensor, batch: Batch, **more: Any) -> Evidence:
        """What a head reads of softmax(logits) and of u; entropy and collision are those of the law of responses."""
        log_law = logits.log_softmax(-1)
        entropy = -(log_law.exp() * log_law).sum().expand_as(log_law)
        collision = (2 * log_law.detach()).logsumexp(-1).expand_as(log_law)
        values = [self.per_token(each, batch.sequences) for each in (log_law, entropy, collision)]
        reference = None if self.log_base is None else self.per_token(self.log_base, batch.sequences)
        return Evidence(**({"policy": TokenLogps(*values), "reference": reference} | more))


def expected_loss(head: LossHead, logits: Tensor, world: World, batch: Batch, **evidence: Any) -> Tensor:
    """[] the loss of softmax(logits): each term's sum, divided by the batch's count of its unit."""
    output = head(world.evidence(logits, batch, **evidence), batch)
    return sum(term.total / batch.count(term.unit) for term in output.terms)


def slope(head: LossHead, logits: Tensor, world: World, batch: Batch, **evidence: Any) -> Tensor:
    """[n] the gradient of `expected_loss` by the logits; what the batch was drawn from is held constant."""
    leaf = logits.detach().clone().requires_grad_()
    return torch.autograd.grad(expected_loss(head, leaf, world, batch, **evidence), leaf)[0]


def minimised(head: LossHead, world: World, batch: Batch, start: Tensor | None = None, **evidence: Any) -> Tensor:
    """[n] logits where L-BFGS ends, from a start [n] (zeros where None)."""
    logits = (torch.zeros_like(world.reward) if start is None else start).detach().clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-13, tolerance_change=0, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = expected_loss(head, logits, world, batch, **evidence)
        value.backward()
        return value

    optimizer.step(closure)
    return logits.detach()
