"""Batches with N, S, T, E and V pairwise different, models that fill all evidence, and the regime by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from support import VOCABULARY, Bigram, random_sequences
from torch import Tensor, nn

from lit_rlhf.algorithms.recording import named
from lit_rlhf.algorithms.statistics import StepStatistics
from lit_rlhf.components.soft_q import SoftStates
from lit_rlhf.functional.segment import segment_sum
from lit_rlhf.losses.base import LossHead
from lit_rlhf.types import Batch, Evidence, PreferenceBatch, Rollout, ScoredBatch, Sequences, every_pair

PER_PROMPT = (3, 2, 4, 2, 3)
SAMPLED = {"behaviour", "advantages", "returns", "opponent", "finished"}
PAIRED = {"chosen", "reward_gap"}


class Parts(nn.Module):
    """Models that fill every field of the evidence by functions of the sequences: parts of a batch agree with it.

    A temperature is learned where the head asks for one: it would else take the place of every head's own.
    """

    def __init__(self, head: LossHead | None = None) -> None:
        super().__init__()
        self.policy, self.reference = Bigram(0), Bigram(1)
        draw = torch.Generator().manual_seed(2)
        self.of_token = nn.Parameter(torch.randn(3, VOCABULARY, generator=draw))
        self.soft = nn.Parameter(torch.randn(2, VOCABULARY, VOCABULARY, generator=draw))
        self.log_tau = nn.Parameter(torch.tensor(-0.5)) if head is not None and "tau" in head.needs else None

    def forward(self, batch: Batch) -> Evidence:
        sequences = batch.sequences
        score, values, partition = self.of_token
        policy = self.policy.token_logps(sequences, entropy=True, collision=True)
        return Evidence(
            policy=dataclasses.replace(policy, acting=0.8 * policy.values - 0.1),
            reference=self.reference.token_logps(sequences).values.detach(),
            score=segment_sum(score[sequences.completion_ids], sequences.completion_lengths),
            values=values[sequences.completion_ids],
            log_partition=segment_sum(partition[sequences.prompt_ids], sequences.prompt_lengths),
            tau=None if self.log_tau is None else self.log_tau.exp(), soft_q=self.soft_states(sequences),
        )

    def soft_states(self, sequences: Sequences) -> SoftStates:
        """Soft values of a next token by the token before it; the slow copies are half of them."""
        ids, first = sequences.completion_ids, sequences.completion_lengths.cumsum(0) - sequences.completion_lengths
        last = sequences.prompt_lengths.cumsum(0) - 1
        before = ids.roll(1).index_copy(0, first, sequences.prompt_ids[last[sequences.prompt_of]])
        lesser = self.soft.detach().amin(0)
        return SoftStates(
            VOCABULARY, lambda rows: self.policy.table[before[rows]].log_softmax(-1), lambda rows: lesser[before[rows]],
            lambda rows: lesser[before[rows]] / 2, lambda taken: self.soft[:, before, taken],
            lambda rows: self.reference.table[before[rows]].log_softmax(-1).detach(),
        )


def kind_of(head: LossHead) -> str | None:
    """The container that has what a head reads; None where no container has it all."""
    needs = head.needs
    if needs & PAIRED:
        other = needs & {"advantages", "returns", "reward", "label", "group"}
        return None if other else "drawn" if needs & SAMPLED else "pairs"
    return "rollout" if needs & SAMPLED else "labels" if "label" in needs else "scores"


def sequences(weighted: bool = True) -> Sequences:
    """14 completions of 5 prompts, not in the order of the prompts; some tokens count half, some not at all."""
    whole = random_sequences(3, len(PER_PROMPT), max(PER_PROMPT))
    kept = [prompt * max(PER_PROMPT) + k for prompt, count in enumerate(PER_PROMPT) for k in range(count)]
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(4))
    found = whole.select(torch.tensor(kept)[order])
    if not weighted:
        return found
    length = found.completion_lengths
    weight = torch.tensor([0.5, 1.0, 1.0]).repeat(len(found.completion_ids))[: len(found.completion_ids)]
    last = (length.cumsum(0) - 1)[length > 1]
    return dataclasses.replace(found, weight=weight.index_fill(0, last, 0.0))


def world(kind: str, weighted: bool = True) -> Batch:
    """A batch of `pairs`, `scores`, `labels`, a `rollout`, or pairs `drawn` from one; soft labels, uneven groups."""
    draw = torch.Generator().manual_seed(5)
    given = sequences(weighted)
    reward = torch.randn(len(given.completion_lengths), generator=draw)
    law = torch.rand(len(reward), generator=draw) + 0.5 if weighted else None
    if kind == "pairs":
        return pairs(given, reward, draw, weighted)
    if kind == "labels":
        return ScoredBatch(given, (reward > 0).float(), law)
    if kind == "scores":
        return ScoredBatch(given, reward, law)
    tokens = [torch.randn(len(given.completion_ids), generator=draw) for _ in range(3)]
    rollout = Rollout(
        given, Bigram(6).token_logps(given).values.detach(), reward, values=tokens[0], advantages=tokens[1],
        returns=tokens[2], weight=law, opponent=torch.arange(len(reward)) % 2 == 0,
        finished=torch.arange(len(reward)) % 3 > 0,
    )
    return dataclasses.replace(pairs(given, reward, draw, weighted), drawn=rollout) if kind == "drawn" else rollout


def pairs(given: Sequences, reward: Tensor, draw: torch.Generator, weighted: bool) -> PreferenceBatch:
    """Two edges in three of the complete graph of each prompt."""
    graph = every_pair(given, reward)
    kept = (torch.arange(len(graph.chosen)) % 3 != 1).nonzero()[:, 0]
    probability = graph.probability[kept].index_fill(0, torch.tensor([2]), 0.5)
    law = torch.rand(len(kept), generator=draw) + 0.5 if weighted else None
    return PreferenceBatch(given, graph.chosen[kept], graph.rejected[kept], probability, graph.reward_gap[kept], law)


def joined(first: Batch, second: Batch) -> Batch:
    """Both batches in one, the prompts of the second after those of the first."""
    count = len(first.sequences.completion_lengths)
    prompts = len(first.sequences.prompt_lengths)
    return _joined(first, second, {"prompt_of": prompts, "chosen": count, "rejected": count})


def _joined(first: Batch | Sequences, second: Batch | Sequences, shifts: dict[str, int]) -> Batch | Sequences:
    fields = {}
    for name in (field.name for field in dataclasses.fields(first)):
        one, two = getattr(first, name), getattr(second, name)
        if isinstance(one, Sequences | Rollout):
            one = _joined(one, two, shifts)
        elif one is not None:
            one = torch.cat([one, two + shifts[name] if name in shifts else two])
        fields[name] = one
    return type(first)(**fields)


def of_prompts(batch: Batch, prompts: Sequence[int]) -> Batch:
    """The part of a batch that belongs to these prompts."""
    return batch.select(torch.isin(batch.sequences.prompt_of, torch.tensor(prompts)).nonzero()[:, 0])


def step(head: LossHead, parts: nn.Module, batches: Sequence[Batch]) -> dict[str, tuple[Tensor, Tensor]]:
    """Name -> (total, count) of terms and metrics over the micro-batches of a step, statistics as in training."""
    evidence = [parts(batch) for batch in batches]
    observed: Sequence = [None] * len(batches)
    if head.observes:
        rows = [head.observe(one, batch) for one, batch in zip(evidence, batches, strict=True)]
        observed = StepStatistics(head.observes).gather(rows, remember=True)
    sums: dict[str, tuple[Tensor, Tensor]] = {}

    def add(name: str, total: Tensor, weight: Tensor) -> None:
        before = sums.get(name, (0.0, 0.0))
        sums[name] = (before[0] + total, before[1] + weight)

    for one, batch, seen in zip(evidence, batches, observed, strict=True):
        output = head(dataclasses.replace(one, observed=seen), batch)
        for name, term in named(output.terms):
            add(f"loss/{name}", term.total, batch.count(term.unit))
        for metric in output.metrics:
            add(metric.name, metric.total, metric.weight)
    return sums


def numbers(sums: dict[str, tuple[Tensor, Tensor]]) -> dict[str, list[float]]:
    """The same as plain numbers."""
    return {name: [total.item(), weight.item()] for name, (total, weight) in sums.items()}


def gradient(head: LossHead, parts: nn.Module, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """The gradient of the sum of the terms by each of the parts' weights; nothing for weights that get none."""
    parts.zero_grad(set_to_none=True)
    sum(total for name, (total, _) in step(head, parts, batches).items() if name.startswith("loss/")).backward()
    return {name: weight.grad.clone() for name, weight in parts.named_parameters() if weight.grad is not None}
