"""A group that is repeated only to keep ranks in step changes no loss, count, metric or gradient, whatever the head."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import Tensor

import lit_rlhf.losses
from lit_rlhf.algorithms.statistics import StepStatistics
from lit_rlhf.data import grammar
from lit_rlhf.data.collation import collate, signal_of
from lit_rlhf.data.review_groups import ReviewGroups
from lit_rlhf.losses.base import LossHead, LossOutput
from lit_rlhf.types import Batch, Evidence, TokenLogps

FIELDS = ({field for field in Evidence.__dataclass_fields__} - {"soft_q"}) | {"chosen", "reward_gap", "reward", "label", "group"}


def heads() -> list[LossHead]:
    """Every head with defaults whose needs the data and a table of tokens can meet."""
    for module in pkgutil.iter_modules(lit_rlhf.losses.__path__):
        importlib.import_module(f"lit_rlhf.losses.{module.name}")
    found, waiting = [], [LossHead]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        own = kind.__module__.startswith("lit_rlhf.losses") and not inspect.isabstract(kind)
        if own and all(p.default is not p.empty for p in inspect.signature(kind).parameters.values()):
            found.append(kind())
    return sorted((head for head in set(found) if head.needs <= FIELDS), key=lambda head: type(head).__name__)


class Tables(torch.nn.Module):
    """Evidence by looking up tokens: enough to see whether a weight is respected."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(6, len(grammar.TOKENS), generator=generator, dtype=torch.float64))

    def forward(self, batch: Batch) -> Evidence:
        policy, reference, entropy, value, score, log_z = (row[batch.sequences.completion_ids] for row in self.table)
        first = batch.sequences.prompt_ids[batch.sequences.prompt_lengths.cumsum(0) - batch.sequences.prompt_lengths]
        lengths = batch.sequences.completion_lengths
        return Evidence(
            policy=TokenLogps(-policy.exp(), entropy.exp()), reference=-reference.exp().detach(), values=value,
            score=torch.stack([part.sum() for part in score.split(lengths.tolist())]), log_partition=self.table[5][first],
        )


def outputs(head: LossHead, batches: list[Batch], models: Tables) -> list[LossOutput]:
    """The head on micro-batches of one step, with the statistics of the whole step where it asks for them."""
    evidence = [models(batch) for batch in batches]
    if head.observes:
        observed = StepStatistics(head.observes).gather([head.observe(e, b) for e, b in zip(evidence, batches, strict=True)], False)
        evidence = [dataclasses.replace(e, observed=seen) for e, seen in zip(evidence, observed, strict=True)]
    return [head(e, batch) for e, batch in zip(evidence, batches, strict=True)]


def summed(head: LossHead, batches: list[Batch]) -> list[Tensor]:
    """Loss, gradient and metrics of a step of micro-batches."""
    models = Tables()
    made = outputs(head, batches, models)
    loss = sum(
        term.coefficient * term.total / sum(batch.count(term.unit) for batch in batches) for output in made for term in output.terms
    )
    (gradient,) = torch.autograd.grad(loss, models.table)
    metrics = zip(*(output.metrics for output in made), strict=True)
    return [loss.detach(), gradient, *(sum(m.total for m in column) / sum(m.weight for m in column) for column in metrics)]


@pytest.mark.parametrize("head", heads(), ids=lambda head: type(head).__name__)
def test_an_uncounted_repeat_changes_nothing(head):
    signal = signal_of(head.needs)
    stored = ReviewGroups("train", 6, 3, signal, "soft", seed=0)
    groups = [stored[index] for index in range(6)]
    step, repeat = collate(groups, signal), collate(groups[:1], signal, counted=False)
    for expected, found in zip(summed(head, [step]), summed(head, [step, repeat]), strict=True):
        assert bool(torch.isfinite(found).all())
        torch.testing.assert_close(found, expected)
