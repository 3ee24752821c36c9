"""What validation measures and what prediction returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from torchmetrics import Metric

from lit_rlhf.algorithms.metrics import (
    Distributions,
    Perplexity,
    PreferenceAccuracy,
    PreferenceCalibration,
    ResidualRMS,
    RewardAUROC,
    RewardMetric,
)
from lit_rlhf.functional.segment import segment_sum
from lit_rlhf.losses.base import LossHead, Prior, Sum, Wrapper
from lit_rlhf.types import Batch, Evidence, Ragged, Sequences


@dataclass(frozen=True)
class Predictions(Ragged):
    """What the models say of every sequence of a micro-batch. A part that is not there is None."""

    sequences: Sequences
    token_log_probs: Tensor | None = None
    """[T] of the policy, in nats."""
    log_prob: Tensor | None = None
    """[S] of the trained tokens of each completion under the policy, in nats."""
    reference_log_prob: Tensor | None = None
    """[S] the same under the reference."""
    score: Tensor | None = None
    """[S] of a reward model."""


def predictions(evidence: Evidence, batch: Batch) -> Predictions:
    """The evidence summed over the trained tokens of each completion."""
    sequences, policy = batch.sequences, None if evidence.policy is None else evidence.policy.values
    return Predictions(
        sequences,
        token_log_probs=policy,
        log_prob=_log_prob(policy, sequences),
        reference_log_prob=_log_prob(evidence.reference, sequences),
        score=evidence.score,
    )


def default_metrics(loss: LossHead) -> list[Metric]:
    """Metrics that suit what the head reads: preferences, scores, labels, or log-probabilities alone.

    Of a sum they follow the first head that is no regulariser: its tau, its reduction, the reference it sees.
    """
    head, prior = next(((head, prior) for head, prior in innermost(loss) if head.family != "regulariser"), (loss, False))
    tau, reduce = getattr(head, "tau", 1.0), getattr(head, "reduce", "sum")
    options = {
        "tau": float(tau) if isinstance(tau, int | float) else 1.0,
        "reduce": reduce if reduce in ("sum", "mean") else "sum",
        "prior": prior,
    }
    return [metric(**options) for metric in _suitable(loss.needs)] or [Perplexity()]


def _suitable(needs: frozenset[str]) -> tuple[type[RewardMetric], ...]:
    if "chosen" in needs or "reward_gap" in needs:
        return PreferenceAccuracy, RewardAUROC, PreferenceCalibration, ResidualRMS, Distributions
    if "label" in needs:
        return RewardAUROC, Distributions
    if "reward" in needs:
        return PreferenceAccuracy, PreferenceCalibration, ResidualRMS, Distributions
    return ()


def innermost(loss: LossHead, prior: bool = False) -> Iterator[tuple[LossHead, bool]]:
    """The heads that a head is composed of, or itself, and whether the reference is hidden from each."""
    if isinstance(loss, Sum):
        for head in loss.terms:
            yield from innermost(head, prior)
    elif isinstance(loss, Wrapper):
        yield from innermost(loss.head, prior or isinstance(loss, Prior))
    else:
        yield loss, prior


def _log_prob(values: Tensor | None, sequences: Sequences) -> Tensor | None:
    """[S] the sum of `values` [T] over the trained tokens of each completion."""
    if values is None:
        return None
    return segment_sum(values * sequences.token_weight.to(values.dtype), sequences.completion_lengths)
