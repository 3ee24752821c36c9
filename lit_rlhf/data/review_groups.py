"""The groups of the built-in task: draws from the exact world of `grammar`, with the feedback that is asked for."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from lit_rlhf.data import grammar
from lit_rlhf.data.collation import Signal
from lit_rlhf.data.coverage import Coverage, PairGraph, coverage
from lit_rlhf.data.designs import PairTable
from lit_rlhf.data.identification import Identification, Scores, identification, scores_of
from lit_rlhf.data.records import Group, Pair
from lit_rlhf.types import PromptRecord

Labels = Literal["soft", "sampled", "hard"]
_STREAM = {"train": 0, "val": 1, "test": 2, "predict": 3}
_DRAWN = 2000
"""Groups whose drawn labels the report looks at, at most."""


class ReviewGroups(Sequence[Group]):
    """n groups as indices of prompts and responses; a `Group` is made when it is asked for.

    Args:
        split: names the rows and sets the draws of splits apart.
        n: groups.
        responses: K, of pairs and scores.
        signal: what the groups carry.
        labels: see `Reviews`.
        seed: of the draws.
    """

    def __init__(self, split: Split, n: int, responses: int, signal: Signal, labels: Labels, seed: int) -> None:
        self.split, self.signal, self.labels, self.seed = split, signal, labels, seed
        generator = np.random.default_rng([seed, _STREAM[split]])
        self.prompts = np.arange(n) % len(grammar.PROMPTS)
        k = {"label": 1, "demonstration": 1, "prompt": 0}.get(signal, responses)
        self.drawn = np.empty((n, k), dtype=np.int64)
        for index, prompt in enumerate(grammar.PROMPTS):
            mine = self.prompts == index
            law = better_law(prompt) if signal == "demonstration" else np.exp(grammar.log_law(prompt))
            self.drawn[mine] = generator.choice(len(law), size=(mine.sum(), self.drawn.shape[1]), p=law / law.sum())
        self._reward = np.stack([grammar.rewards(prompt) for prompt in grammar.PROMPTS])
        self._uniform = generator.random(n)

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> Group:
        if not 0 <= index < len(self):
            raise IndexError(index)
        prompt = self.prompts[index]
        ids, rewards = grammar.response_ids(), self._reward[prompt, self.drawn[index]]
        row = f"reviews:{self.split}:{index + 1}"
        return Group(
            prompt_ids=np.array(grammar.encoded(grammar.PROMPTS[prompt])),
            completions=tuple(ids[response] for response in self.drawn[index]),
            rewards=tuple(rewards.tolist()) if self.signal == "reward" else None,
            labels=(float(self.good[index]),) if self.signal == "label" else None,
            pairs=self._pairs(index, rewards) if self.paired else (),
            row=row,
            record=PromptRecord(grammar.PROMPTS[prompt], row=row) if self.signal == "prompt" else None,
        )

    @property
    def paired(self) -> bool:
        """Whether the groups have pairs."""
        return self.signal in ("gap", "preference")

    @property
    def lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """[n] tokens of each prompt, and [n, K] of each response."""
        prompts = np.array([len(grammar.encoded(prompt)) for prompt in grammar.PROMPTS])
        responses = np.array([len(ids) for ids in grammar.response_ids()])
        return prompts[self.prompts], responses[self.drawn]

    @functools.cached_property
    def coverage(self) -> Coverage:
        """Of the pair graph of all groups."""
        return coverage(self._graph(len(self), labelled=False))

    @functools.cached_property
    def identification(self) -> Identification | None:
        """Of the labels; where they are drawn, of the first groups."""
        return identification(self._graph(min(len(self), _DRAWN) if self.labels == "sampled" else len(self), labelled=True))

    @functools.cached_property
    def scores(self) -> Scores:
        """Of the rewards of all responses."""
        drawn, nodes = np.unique(self._numbers, return_inverse=True)
        rewards = self._reward[self.prompts[:, None], self.drawn]
        return scores_of(drawn // len(grammar.responses()), nodes.ravel(), rewards.ravel())

    @property
    def table(self) -> PairTable:
        """All pairs, without making groups."""
        chosen, rejected, probability = self.labelled(len(self))
        rewards = self._reward[self.prompts[:, None], self.drawn]
        gap = np.take_along_axis(rewards, chosen, axis=1) - np.take_along_axis(rewards, rejected, axis=1)
        start = np.arange(len(self) + 1) * chosen.shape[1]
        return PairTable(probability.ravel(), gap.ravel(), np.ones(gap.size), start, self)

    @property
    def _numbers(self) -> np.ndarray:
        """[n, K] a number for each response of each prompt."""
        return self.prompts[:, None] * len(grammar.responses()) + self.drawn

    def _graph(self, n: int, labelled: bool) -> PairGraph:
        """The pair graph of the first n groups; without labels the higher reward is chosen, for sure."""
        drawn, nodes = np.unique(self._numbers[:n], return_inverse=True)
        nodes, (chosen, rejected, probability) = nodes.reshape(n, -1), self.labelled(n, labelled)
        ends = np.stack([np.take_along_axis(nodes, end, axis=1).ravel() for end in (chosen, rejected)], axis=1)
        prompts, prompt_of = np.unique(drawn // len(grammar.responses()), return_inverse=True)
        return PairGraph(prompt_of, ends, probability.ravel(), len(prompts), n)

    def labelled(self, n: int, labelled: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[n, E], [n, E], [n, E] places of chosen and rejected in each group, and the probability of chosen."""
        first, second = np.triu_indices(self.drawn.shape[1], 1)
        rewards = self._reward[self.prompts[:n, None], self.drawn[:n]]
        gap = rewards[:, first] - rewards[:, second]
        swapped, gap = gap < 0, abs(gap)
        probability = np.ones_like(gap)
        if labelled and self.labels == "sampled":
            swapped ^= np.stack([self._draws(index) for index in range(n)]) >= sigmoid(gap)
        if labelled and self.labels != "sampled":
            probability = sigmoid(gap) if self.labels == "soft" else np.where(gap > 0, 1.0, 0.5)
        return np.where(swapped, second, first), np.where(swapped, first, second), probability

    @functools.cached_property
    def good(self) -> np.ndarray:
        """[n] the label 0 or 1 of each group's one response."""
        mean = np.stack([np.exp(grammar.log_law(prompt)) @ grammar.rewards(prompt) for prompt in grammar.PROMPTS])
        above = self._reward[self.prompts, self.drawn[:, 0]] - mean[self.prompts]
        return (above > 0 if self.labels == "hard" else self._uniform < sigmoid(above)).astype(float)

    def _pairs(self, index: int, rewards: np.ndarray) -> tuple[Pair, ...]:
        edges = list(itertools.combinations(range(len(rewards)), 2))
        draws = self._draws(index) if self.labels == "sampled" else np.zeros(len(edges))
        return tuple(self._pair(*edge, rewards, draw) for edge, draw in zip(edges, draws, strict=True))

    def _draws(self, index: int) -> np.ndarray:
        """[E] a number in [0, 1) for each pair of a group."""
        k = self.drawn.shape[1]
        return np.random.default_rng([self.seed, _STREAM[self.split], index]).random(k * (k - 1) // 2)

    def _pair(self, first: int, second: int, rewards: np.ndarray, draw: float) -> Pair:
        """The higher reward is chosen; where labels are sampled, the lower one with its probability."""
        chosen, rejected = (first, second) if rewards[first] >= rewards[second] else (second, first)
        gap = float(rewards[chosen] - rewards[rejected])
        if self.labels == "sampled":
            return Pair(chosen, rejected, 1.0, gap) if draw < sigmoid(gap) else Pair(rejected, chosen, 1.0, -gap)
        return Pair(chosen, rejected, float(sigmoid(gap)) if self.labels == "soft" else 1.0 if gap else 0.5, gap)


def better_law(prompt: str) -> np.ndarray:
    """[Y] the law mu e^r / Z that demonstrations are drawn from: the target at tau = 1."""
    tilted = grammar.log_law(prompt) + grammar.rewards(prompt)
    return np.exp(tilted - np.logaddexp.reduce(tilted))


def sigmoid(x: np.ndarray | float) -> np.ndarray | float:
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))
