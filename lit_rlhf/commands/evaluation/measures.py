"""What a policy's completions are worth: every measure with its interval over prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.commands.evaluation.diversity import distinct, similarity, unique, words
from lit_rlhf.functional.statistics import Estimate, mean_estimate, pass_at_k, share_estimate
from lit_rlhf.rewards.base import Response

MEANINGS = {
    "reward": "mean reward of a completion",
    "gain": "reward less the baseline's on the same prompt",
    "win_rate": "probability that a completion is preferred to the baseline's of the same prompt; a tie is half",
    "kl": "KL(policy || baseline) of a whole completion, nats, exact over the vocabulary at every token",
    "kl_per_token": "the same per token",
    "tokens": "mean length, tokens of the policy's own tokenizer, the terminator included",
    "words": "mean length, words",
    "cut": "share of completions that did not end before the greatest length",
    "distinct_1": "different words among all words of a prompt's completions",
    "distinct_2": "different pairs of neighbouring words among all of a prompt's completions",
    "unique": "different completions among those of a prompt",
    "similarity": "words that two completions of a prompt have in common",
}
"""Besides them `reward/PART` for every part of the reward, and `pass@k` where the reward is verifiable."""


@dataclass(frozen=True)
class Answers:
    """One policy's K completions of each of N prompts, those of a prompt one after the other; S = N K."""

    responses: tuple[Response, ...]
    """S of them."""
    samples: int
    """K"""
    reward: Tensor
    """[S]; NaN where there is none."""
    parts: Mapping[str, Tensor]
    """[S] each, by name."""
    kl: Tensor | None = None
    """[S] KL to the baseline in nats, summed over tokens; None where it cannot be had."""
    win: Tensor | None = None
    """[S] probability of being preferred to the baseline's completion of the same number; None for the baseline."""

    @property
    def lengths(self) -> Tensor:
        """[S] tokens."""
        return torch.tensor([len(response.ids) for response in self.responses])

    @property
    def texts(self) -> list[list[str]]:
        """[N][K]"""
        every = [response.text for response in self.responses]
        return [every[start : start + self.samples] for start in range(0, len(every), self.samples)]


def measured(answers: Answers, baseline: Answers | None, verifiable: bool) -> dict[str, Estimate]:
    """Every measure by its name, those that are known.

    Args:
        answers: of a policy.
        baseline: answers to the same prompts; None for the baseline itself.
        verifiable: the reward is 1 for right and 0 for wrong.
    """
    k = answers.samples
    found = {"reward": _mean(answers.reward, k)}
    found |= {f"reward/{name}": _mean(values, k) for name, values in answers.parts.items()}
    if baseline is not None:
        gain = _by_prompt(answers.reward, k) - _by_prompt(baseline.reward, k)
        found["gain"] = _mean(gain, 1)
    if answers.win is not None:
        found["win_rate"] = share_estimate(_by_prompt(answers.win, k))
    if answers.kl is not None:
        found["kl"] = _mean(answers.kl, k)
        found["kl_per_token"] = mean_estimate(*(x.view(-1, k).sum(1) for x in (answers.kl, answers.lengths)))
    found |= _shape(answers) | (_passes(answers.reward.view(-1, k)) if verifiable else {})
    return {name: estimate for name, estimate in found.items() if estimate.prompts}


def _shape(answers: Answers) -> dict[str, Estimate]:
    """Length and diversity."""
    k, texts = answers.samples, answers.texts
    cut = torch.tensor([float(not response.finished) for response in answers.responses])
    counts = torch.tensor([float(len(words(response.text))) for response in answers.responses])
    return {
        "tokens": _mean(answers.lengths, k), "words": _mean(counts, k), "cut": share_estimate(_by_prompt(cut, k)),
        "distinct_1": _of_prompts(texts, lambda group: distinct(group, 1)),
        "distinct_2": _of_prompts(texts, lambda group: distinct(group, 2)),
        "unique": _of_prompts(texts, unique), "similarity": _of_prompts(texts, similarity),
    }


def _passes(reward: Tensor) -> dict[str, Estimate]:
    """pass@k for k = 1, 2, 4, ... and K, of rewards [N, K]."""
    drawn, right = (~reward.isnan()).sum(1), (reward == 1).sum(1)
    sizes = sorted({2**power for power in range(reward.shape[1].bit_length())} | {reward.shape[1]})
    return {f"pass@{k}": share_estimate(pass_at_k(right, drawn, k)) for k in sizes}


def _of_prompts(texts: Sequence[Sequence[str]], measure: Callable[[Sequence[str]], float | None]) -> Estimate:
    found = [measure(group) for group in texts]
    return _mean(torch.tensor([torch.nan if value is None else value for value in found]), 1)


def _mean(values: Tensor, k: int) -> Estimate:
    """Over all completions that have a value [S]."""
    rows = values.double().view(-1, k)
    return mean_estimate(rows.nansum(1), (~rows.isnan()).sum(1))


def _by_prompt(values: Tensor, k: int) -> Tensor:
    """[N] the mean over a prompt's completions that have a value; NaN where none has."""
    return values.double().view(-1, k).nanmean(1)
