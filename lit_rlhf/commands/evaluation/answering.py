"""A policy answers the prompts: completions, rewards, and the KL to the baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lit_rlhf.commands.evaluation.measures import Answers
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.functional.segment import segment_sum
from lit_rlhf.rewards.base import Judge, Response, Reward, Scores
from lit_rlhf.sampling.base import Sampler
from lit_rlhf.sampling.stops import StopSet
from lit_rlhf.types import Prompts, Samples, Sequences


def answered(
    policy: LanguageModel, prompts: Sequence[Prompts], sampler: Sampler, samples: int, reward: Reward,
    baseline: LanguageModel | None, token_budget: int,
) -> Answers:
    """K completions of every prompt with their rewards.

    Args:
        policy: loaded.
        prompts: in its tokens.
        sampler: how it completes them.
        samples: K
        reward: built.
        baseline: loaded, whose KL is asked for; None leaves it out.
        token_budget: most tokens of one forward pass for the KL.
    """
    stops, device = StopSet.of(policy, sampler.stop), next(policy.parameters()).device
    responses: list[Response] = []
    scores: list[Scores] = []
    kl: list[Tensor] = []
    for part in prompts:
        drawn = sampler.sample(policy, part.to(device), samples, draw=0)
        found = tuple(_responses(drawn, part, stops, start=len(responses) // samples))
        scores.append(reward(found))
        if baseline is not None:
            kl += [_kl(policy, baseline, few) for few in _few(drawn.sequences, token_budget)]
        responses += found
    parts = {part.name: torch.cat([_part(score, part.name) for score in scores]) for part in scores[0].parts}
    total = torch.cat([score.total for score in scores])
    return Answers(tuple(responses), samples, total, parts, torch.cat(kl) if kl else None)


def judged(answers: Answers, baseline: Answers, judge: Judge | None) -> Answers:
    """The answers with the probability that each is preferred to the baseline's of the same prompt and number.

    Without a judge the higher reward wins, and equal rewards are a tie, which is half. A judge sees the policy's
    completion first in every other pair, so that a liking for the first place favours none.
    """
    if judge is None:
        gap = answers.reward - baseline.reward
        return dataclasses.replace(answers, win=torch.where(gap.isnan(), torch.nan, (1 + gap.sign()) / 2))
    swapped = torch.arange(len(answers.responses)) % 2 == 1
    pairs = zip(answers.responses, baseline.responses, swapped.tolist(), strict=True)
    first, second = zip(*((its, own) if turned else (own, its) for own, its, turned in pairs), strict=True)
    preferred = judge(first, second)
    return dataclasses.replace(answers, win=torch.where(swapped, 1 - preferred, preferred))


def of_baseline(answers: Answers) -> Answers:
    """The baseline's own answers: its KL to itself is 0."""
    return dataclasses.replace(answers, kl=torch.zeros_like(answers.reward))


def _responses(drawn: Samples, prompts: Prompts, stops: StopSet, start: int) -> Iterator[Response]:
    sequences = drawn.sequences
    completions = sequences.completion_ids.tolist()
    ends = sequences.completion_lengths.cumsum(0).tolist()
    rows = zip([0, *ends], ends, sequences.prompt_of.tolist(), drawn.finished.tolist(), strict=False)
    for begin, end, prompt, finished in rows:
        ids = completions[begin:end]
        yield Response(prompts.records[prompt], stops.text(ids), tuple(ids), finished, start + prompt)


def _kl(policy: LanguageModel, baseline: LanguageModel, sequences: Sequences) -> Tensor:
    """[S] on the CPU, in nats."""
    return segment_sum(policy.token_kl(sequences, baseline).double(), sequences.completion_lengths).cpu()


def _few(sequences: Sequences, token_budget: int) -> Iterator[Sequences]:
    """The sequences in order, in parts of at most so many tokens, or of one sequence."""
    part: list[int] = []
    used = 0
    tokens = (sequences.prompt_lengths[sequences.prompt_of] + sequences.completion_lengths).tolist()
    for index, size in enumerate(tokens):
        if part and used + size > token_budget:
            yield _selected(sequences, part)
            part, used = [], 0
        part.append(index)
        used += size
    yield _selected(sequences, part)


def _selected(sequences: Sequences, part: Sequence[int]) -> Sequences:
    return sequences.select(torch.tensor(part, device=sequences.prompt_of.device))


def _part(scores: Scores, name: str) -> Tensor:
    return next(part.values for part in scores.parts if part.name == name)
