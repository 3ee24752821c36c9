"""Validation of an on-line algorithm: held-out prompts, its own sampler settings, the same reward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_rlhf.algorithms.collection import as_responses, as_rollout, scored
from lit_rlhf.algorithms.minibatches import in_parts
from lit_rlhf.functional.segment import segment_sum
from lit_rlhf.functional.statistics import pass_at_k
from lit_rlhf.losses.base import Metric
from lit_rlhf.losses.metrics import mean
from lit_rlhf.rewards.base import Scores
from lit_rlhf.sampling.stops import StopSet
from lit_rlhf.types import Prompts, Rollout

if TYPE_CHECKING:
    from lit_rlhf.algorithms.online import OnlineAlgorithm


def evaluate(algorithm: OnlineAlgorithm, prompts: Prompts) -> None:
    """Adds to `val_recorder` what the policy's completions of these prompts are worth."""
    sampler = algorithm.val_sampler
    samples = sampler.sample(algorithm.actor.model, prompts, algorithm.val_samples, draw=0)
    rollout = as_rollout(samples, prompts)
    responses = as_responses(rollout, prompts, StopSet.of(algorithm.actor.model, sampler.stop))
    scores = algorithm.reward(responses)
    rollout = scored(rollout, scores)
    weight, lengths = rollout.sequence_weight, rollout.sequences.completion_lengths
    parts = [(f"reward/{part.name}", part.values.to(weight)) for part in scores.parts]
    metrics = [
        mean("reward", rollout.reward, weight), mean("length", lengths.to(weight), weight),
        mean("finished", rollout.finished.to(weight), weight),
        *(mean(name, torch.nan_to_num(values), weight * torch.isfinite(values)) for name, values in parts),
        *_divergence(algorithm, rollout), *_passes(algorithm, rollout, scores),
    ]
    algorithm.val_recorder.add_metrics(metrics)


def _divergence(algorithm: OnlineAlgorithm, rollout: Rollout) -> list[Metric]:
    """`kl` per completion and `kl_per_token`: exact over the vocabulary at every prefix the policy has written, in nats."""
    if algorithm.reference is None:
        return []
    pieces = []
    for which, part in in_parts(rollout, algorithm.trainer.datamodule.micro_batch_tokens):
        found = algorithm.reference.token_kl(algorithm.actor, part.sequences)
        if found is None:
            return []
        pieces.append((which, segment_sum(found, part.sequences.completion_lengths)))
    order = torch.cat([which for which, _ in pieces])
    total = torch.cat([value for _, value in pieces])[torch.argsort(order)]
    weight = rollout.sequence_weight
    tokens = (weight * rollout.sequences.completion_lengths).sum()
    return [mean("kl", total, weight), Metric("kl_per_token", (weight * total).sum(), tokens)]


def _passes(algorithm: OnlineAlgorithm, rollout: Rollout, scores: Scores) -> list[Metric]:
    """`pass@1`, `pass@2`, `pass@4`, ... up to K, where the reward is right or wrong."""
    if not algorithm.reward.verifiable:
        return []
    right = (algorithm.reward.right(scores).to(rollout.reward) > 0.5).to(rollout.reward) * (rollout.sequence_weight > 0)
    group: Tensor = rollout.sequences.prompt_of
    prompts = len(rollout.sequences.prompt_lengths)
    weight = rollout.reward.new_zeros(prompts).scatter_reduce(0, group, rollout.sequence_weight, "amax")
    correct = rollout.reward.new_zeros(prompts).index_add(0, group, right)
    total = torch.full_like(correct, algorithm.val_samples)
    ks = [2**power for power in range(algorithm.val_samples.bit_length())]
    return [mean(f"pass@{k}", pass_at_k(correct, total, k), weight) for k in ks]
