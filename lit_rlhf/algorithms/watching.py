"""What is worth watching whatever the head: do the chosen ends rise, does length grow?"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rlhf.credit.counting import own_token_weight
from lit_rlhf.functional import kl
from lit_rlhf.functional.segment import segment_sum
from lit_rlhf.losses.base import Metric
from lit_rlhf.types import Batch, Evidence, PreferenceBatch, Rollout


@torch.no_grad()
def watched(evidence: Evidence, batch: Batch) -> tuple[Metric, ...]:
    """Weighted sums over one micro-batch.

    `length` (of a pair's ends: `length/chosen`, `length/rejected`) is in tokens. With a policy, `logp` is the mean
    log-probability of a trained token in nats; with a reference, `logp_change` is the mean of log(pi/u) per token, and
    `chosen_rising` the share of pairs whose chosen end has become more likely.
    """
    lengths = batch.sequences.completion_lengths
    if not isinstance(batch, PreferenceBatch):
        weight = getattr(batch, "sequence_weight", torch.ones_like(lengths, dtype=torch.float32))
        return (_mean("length", lengths, weight), *_per_token("", evidence, batch, weight))
    metrics: list[Metric] = []
    for end, which in (("chosen", batch.chosen), ("rejected", batch.rejected)):
        weight = batch.pair_weight.new_zeros(len(lengths)).index_add(0, which, batch.pair_weight)
        metrics += [_mean(f"length/{end}", lengths, weight), *_per_token(f"/{end}", evidence, batch, weight)]
    if evidence.policy is not None and evidence.reference is not None:
        change = _sums(evidence.policy.values - evidence.reference, batch)
        metrics.append(_mean("chosen_rising", change[batch.chosen] > 0, batch.pair_weight))
    return tuple(metrics)


@torch.no_grad()
def of_ratio(evidence: Evidence, rollout: Rollout) -> tuple[Metric, ...]:
    """Weighted sums over one micro-batch, of the policy under the law that sampled it: pi' against the behaviour mu.

    `policy_kl` is the k3 estimate of KL(mu || pi') per token in nats, over the policy's own sequences.
    """
    return (_mean("policy_kl", kl.k3(rollout.behaviour, _acting(evidence)), own_token_weight(rollout)),)


@torch.no_grad()
def largest_apart(evidence: Evidence, rollout: Rollout) -> Tensor:
    """[] the largest difference in nats between a log-prob now and when it was sampled; 0 without tokens that count.

    Only of the policy's own sequences.
    """
    apart = (_acting(evidence) - rollout.behaviour).abs()
    return torch.where(own_token_weight(rollout) > 0, apart, 0.0).max()


def of_credit(rollout: Rollout) -> tuple[Metric, ...]:
    """Weighted sums over an iteration: mean and square of advantages, mean of returns and of the critic's values."""
    weight = rollout.token_weight
    metrics = [
        _mean(f"rollout/{name}", getattr(rollout, field), weight)
        for name, field in (("advantage", "advantages"), ("return", "returns"), ("value", "values"))
        if getattr(rollout, field) is not None
    ]
    if rollout.advantages is not None:
        metrics.append(_mean("rollout/advantage_square", rollout.advantages.square(), weight))
    return tuple(metrics)


def distributions(rollout: Rollout) -> dict[str, Tensor]:
    """Rewards and lengths of the completions that count, and their tokens' advantages: name -> [n]."""
    counted = rollout.sequence_weight > 0
    found = {"rollout/rewards": rollout.reward[counted], "rollout/lengths": rollout.sequences.completion_lengths[counted]}
    if rollout.advantages is not None:
        found["rollout/advantages"] = rollout.advantages[rollout.token_weight > 0]
    return found


@torch.no_grad()
def ratios(evidence: Evidence, rollout: Rollout) -> Tensor:
    """[n] pi'/mu of the tokens that count."""
    return torch.exp(_acting(evidence) - rollout.behaviour)[rollout.token_weight > 0]


def _acting(evidence: Evidence) -> Tensor:
    policy = evidence.policy
    return (policy.values if policy.acting is None else policy.acting).detach()


def _per_token(end: str, evidence: Evidence, batch: Batch, weight: Tensor) -> list[Metric]:
    """Means over the tokens of sequences of these weights [S]."""
    if evidence.policy is None:
        return []
    tokens = (weight * _sums(torch.ones_like(evidence.policy.values), batch)).sum()
    metrics = [Metric(f"logp{end}", (weight * _sums(evidence.policy.values, batch)).sum(), tokens)]
    if evidence.reference is not None:
        change = _sums(evidence.policy.values - evidence.reference, batch)
        metrics.append(Metric(f"logp_change{end}", (weight * change).sum(), tokens))
    return metrics


def _mean(name: str, values: Tensor, weight: Tensor) -> Metric:
    return Metric(name, (values * weight).sum(), weight.sum())


def _sums(values: Tensor, batch: Batch) -> Tensor:
    """[S] weighted sums of `values` [T] over the tokens of each completion."""
    weight = batch.sequences.token_weight.to(values.dtype)
    return segment_sum(values.detach() * weight, batch.sequences.completion_lengths)
