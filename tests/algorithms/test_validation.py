"""Which metrics a head gets, and what prediction returns."""

import dataclasses
from dataclasses import dataclass

import torch

from lit_rlhf.algorithms.metrics import (
    Distributions,
    Perplexity,
    PreferenceAccuracy,
    PreferenceCalibration,
    ResidualRMS,
    RewardAUROC,
)
from lit_rlhf.algorithms.validation import default_metrics, predictions
from lit_rlhf.losses.base import LossHead, Prior
from lit_rlhf.types import Evidence, PreferenceBatch, ScoredBatch, Sequences, TokenLogps


def two_completions(values):
    """Of one token each, to one prompt, with these log-ratios."""
    ones = torch.ones(2, dtype=torch.long)
    sequences = Sequences(ones[:1], ones[:1], ones, ones, torch.zeros(2, dtype=torch.long))
    return sequences, Evidence(policy=TokenLogps(torch.tensor(values) - 2.0), reference=torch.full((2,), -2.0))


@dataclass(frozen=True)
class Head(LossHead):
    """Says what it reads, and no more."""

    reads: frozenset = frozenset({"policy", "chosen"})
    tau: float = 0.3
    reduce: str = "mean"
    family = "PRA"
    unit = "pair"

    @property
    def needs(self):
        return self.reads

    def __call__(self, evidence, batch):
        raise NotImplementedError


def test_metrics_follow_what_the_head_reads():
    def kinds(*needs):
        return {type(metric) for metric in default_metrics(Head(frozenset(needs)))}

    pairs = {PreferenceAccuracy, PreferenceCalibration, ResidualRMS, Distributions}
    assert kinds("policy", "chosen") == pairs | {RewardAUROC}
    assert kinds("policy", "label") == {RewardAUROC, Distributions}
    assert kinds("policy", "reward") == pairs
    assert kinds("policy") == {Perplexity}


def test_metrics_follow_the_first_head_that_is_no_regulariser():
    metric = default_metrics(0.5 * Prior(Head()))[0]
    assert (metric.tau, metric.reduce, metric.prior) == (0.3, "mean", True)
    sequences, evidence = two_completions([3.0, 1.0])
    batch = PreferenceBatch(sequences, torch.tensor([0]), torch.tensor([1]), torch.ones(1))
    against_it = dataclasses.replace(evidence, reference=torch.tensor([9.0, 0.0]))
    hidden, seen = default_metrics(Prior(Head()))[0], default_metrics(Head())[0]
    for metric in (hidden, seen):
        metric.update(against_it, batch)
    assert (hidden.compute(), seen.compute()) == (1, 0)


def test_predictions_sum_the_trained_tokens():
    sequences, evidence = two_completions([0.5, 1.0])
    result = predictions(evidence, ScoredBatch(sequences, torch.ones(2)))
    assert result.log_prob.tolist() == [-1.5, -1.0] and result.reference_log_prob.tolist() == [-2.0, -2.0]
    assert result.score is None
