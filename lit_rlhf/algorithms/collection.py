"""The collecting half of an iteration: prompts to sampled, scored sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_rlhf.algorithms.pairing import Collected
from lit_rlhf.credit.truncation import constant_groups
from lit_rlhf.functional.segment import segment_mean, sum_by
from lit_rlhf.losses.base import Metric
from lit_rlhf.losses.metrics import mean
from lit_rlhf.rewards.base import Response, Scores
from lit_rlhf.sampling.stops import StopSet
from lit_rlhf.types import Prompts, Rollout, Samples, joined_rollouts, segment_indices

if TYPE_CHECKING:
    from lit_rlhf.algorithms.online import OnlineAlgorithm

ATTEMPTS = 64
"""Draws that an iteration has numbers for; `resample` is below it."""


def collect(algorithm: OnlineAlgorithm, prompts: Prompts, iteration: int) -> Collected:
    """K completions of every prompt with their rewards; groups of constant reward are replaced `resample` times.

    A replacement answers another prompt of the training data, chosen by seed, iteration, attempt and place alone.
    """
    found, counted = _drawn(algorithm, prompts, iteration, 0), prompts.index[prompts.weight > 0]
    for attempt in range(1, algorithm.resample + 1):
        constant = constant_groups(found.rollout) & torch.isin(found.index, counted)
        algorithm.recorder.add("rollout/resampled_groups", float(constant.sum()), float(len(counted)))
        if not bool(constant.any()):
            break
        data = algorithm.trainer.datamodule
        fresh = data.fresh_prompts(found.index[constant].cpu(), iteration, attempt).to(algorithm.device)
        again = _drawn(algorithm, fresh, iteration, attempt)
        found = _in_order(_without(found, constant), again)
    return found


def _drawn(algorithm: OnlineAlgorithm, prompts: Prompts, iteration: int, attempt: int) -> Collected:
    draw = 2 * (iteration * ATTEMPTS + attempt)
    algorithm.enter("generate")
    own = algorithm.sampler.sample(algorithm.actor.model, prompts, algorithm.group_size, draw)
    rollout = as_rollout(own, prompts)
    if algorithm.opponent is not None:
        its = algorithm.opponent.sample(algorithm.sampler, algorithm.actor, algorithm.reference, prompts, draw + 1)
        rollout = _side_by_side(rollout, as_rollout(its, prompts))
    algorithm.enter("score")
    responses = as_responses(rollout, prompts, algorithm.stop_set)
    scores = algorithm.reward(responses)
    rollout = scored(rollout, scores)
    algorithm.recorder.add_metrics(of_scores(scores, rollout), of_samples(rollout))
    return Collected(rollout, responses, prompts.index, iteration)


def as_rollout(samples: Samples, prompts: Prompts) -> Rollout:
    """Samples before they are scored: every reward 0, each sequence with its prompt's weight."""
    weight = prompts.weight[samples.sequences.prompt_of].to(samples.behaviour)
    return Rollout(
        samples.sequences, samples.behaviour, torch.zeros_like(weight), weight=weight, policy=samples.policy,
        finished=samples.finished, law=samples.law,
    )


def scored(rollout: Rollout, scores: Scores) -> Rollout:
    """The rollout with its rewards; a response without one weighs 0."""
    total = scores.total.to(rollout.reward)
    known = torch.isfinite(total)
    return dataclasses.replace(
        rollout, reward=torch.where(known, total, 0.0), weight=rollout.sequence_weight * known.to(rollout.reward)
    )


def as_responses(rollout: Rollout, prompts: Prompts, stops: StopSet) -> tuple[Response, ...]:
    """Texts with what is known of their prompts, in the order of the sequences."""
    sequences = rollout.sequences
    completions = sequences.completion_ids.cpu().split(sequences.completion_lengths.tolist())
    finished = rollout.finished.tolist()
    return tuple(
        Response(prompts.records[prompt], stops.text(ids.tolist()), tuple(ids.tolist()), ended, prompt)
        for prompt, ids, ended in zip(sequences.prompt_of.tolist(), completions, finished, strict=True)
    )


# ---- putting parts together


def _side_by_side(own: Rollout, its: Rollout) -> Rollout:
    """One rollout in which every prompt has both: the policy's own completions first."""
    both = joined_rollouts([_marked(own, False), _marked(its, True)])
    prompts = len(own.sequences.prompt_lengths)
    sequences = dataclasses.replace(
        both.sequences, prompt_ids=own.sequences.prompt_ids, prompt_lengths=own.sequences.prompt_lengths,
        prompt_of=both.sequences.prompt_of % prompts,
    )
    return _ordered(dataclasses.replace(both, sequences=sequences), sequences.prompt_of)


def _marked(rollout: Rollout, opponent: bool) -> Rollout:
    return dataclasses.replace(rollout, opponent=torch.full_like(rollout.reward, opponent, dtype=torch.bool))


def _ordered(rollout: Rollout, key: Tensor) -> Rollout:
    return rollout.select(torch.argsort(key, stable=True))


def _without(found: Collected, prompts: Tensor) -> Collected:
    """The part of what was collected that belongs to the other prompts."""
    rows = (~prompts[found.rollout.sequences.prompt_of]).nonzero()[:, 0]
    return Collected(
        found.rollout.select(rows), tuple(found.responses[row] for row in rows.tolist()), found.index[~prompts], found.draw
    )


def _in_order(first: Collected, second: Collected) -> Collected:
    """Both, the prompts in the order of their places in the iteration."""
    parts = [part for part in (first, second) if len(part.index)]
    rollout, index = joined_rollouts([part.rollout for part in parts]), torch.cat([part.index for part in parts])
    responses = [response for part in parts for response in part.responses]
    rows = torch.argsort(index[rollout.sequences.prompt_of], stable=True)
    return Collected(
        rollout.select(rows), tuple(responses[row] for row in rows.tolist()), index.sort().values, first.draw
    )


# ---- numbers


def of_scores(scores: Scores, rollout: Rollout) -> tuple[Metric, ...]:
    """`reward/total`, `reward/total_square` (for the deviation), `reward/skipped`, and `reward/<part>` over the policy's own."""
    own = _own(rollout)
    parts = tuple(
        mean(f"reward/{part.name}", torch.nan_to_num(part.values.to(own)), own * torch.isfinite(part.values).to(own))
        for part in scores.parts
    )
    skipped = 1 - torch.isfinite(scores.total).to(own)
    return (
        mean("reward/total", rollout.reward, own), mean("reward/total_square", rollout.reward.square(), own),
        Metric("reward/skipped", skipped.sum(), torch.ones_like(skipped).sum()), *parts,
    )


def of_samples(rollout: Rollout) -> tuple[Metric, ...]:
    """Length in tokens, share finished, entropy estimated by -log pi, share of groups with one reward."""
    own, lengths = _own(rollout), rollout.sequences.completion_lengths
    return (
        mean("rollout/length", lengths.to(own), own), mean("rollout/finished", rollout.finished.to(own), own),
        mean("rollout/entropy_estimate", -segment_mean(rollout.unfiltered, lengths), own),
        zero_variance(rollout),
    )


def zero_variance(rollout: Rollout) -> Metric:
    """The share of groups of one reward alone, among those of two samples or more that count."""
    constant = constant_groups(rollout)
    size = sum_by((_own(rollout) > 0).to(rollout.reward), rollout.sequences.prompt_of, len(constant))
    return mean("rollout/zero_variance_groups", constant.to(size), (size > 1).to(size))


def _own(rollout: Rollout) -> Tensor:
    """[S] the weights of the policy's own sequences."""
    weight = rollout.sequence_weight
    return weight if rollout.opponent is None else weight * ~rollout.opponent


def scatter_tokens(pieces: Sequence[tuple[Tensor, Tensor]], lengths: Tensor) -> Tensor:
    """[T] values of tokens, given as (sequences, their tokens' values) in any order of the sequences."""
    whole = pieces[0][1].new_empty(int(lengths.sum()))
    for which, values in pieces:
        whole[segment_indices(lengths, which)] = values
    return whole
