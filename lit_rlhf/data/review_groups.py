"""The groups of the built-in task: draws from the exact world of `grammar`, with the feedback that is asked for."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from lit_rlhf.data import grammar
from lit_rlhf.data.collation import Signal
from lit_rlhf.data.coverage import Coverage
from lit_rlhf.data.records import Group, Pair
from lit_rlhf.types import PromptRecord

Labels = Literal["soft", "sampled", "hard"]
_STREAM = {"train": 0, "val": 1, "test": 2, "predict": 3}


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

    @property
    def coverage(self) -> Coverage:
        """Of the pair graph: the responses of a group are all connected."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        drawn, nodes = np.unique(self.prompts[:, None] * len(grammar.responses()) + self.drawn, return_inverse=True)
        nodes = nodes.reshape(self.drawn.shape)
        first, second = nodes[:, :-1].ravel(), nodes[:, 1:].ravel()
        graph = coo_array((np.ones(len(first)), (first, second)), shape=(len(drawn), len(drawn)))
        count, component = connected_components(graph, directed=False)
        parts = np.unique(np.stack([drawn // len(grammar.responses()), component]), axis=1)[0]
        prompts, k = len(np.unique(self.prompts)), self.drawn.shape[1]
        return Coverage(prompts, len(drawn), len(self) * k * (k - 1) // 2, int(count), int((np.bincount(parts) == 1).sum()))

    @functools.cached_property
    def good(self) -> np.ndarray:
        """[n] the label 0 or 1 of each group's one response."""
        mean = np.stack([np.exp(grammar.log_law(prompt)) @ grammar.rewards(prompt) for prompt in grammar.PROMPTS])
        above = self._reward[self.prompts, self.drawn[:, 0]] - mean[self.prompts]
        return (above > 0 if self.labels == "hard" else self._uniform < sigmoid(above)).astype(float)

    def _pairs(self, index: int, rewards: np.ndarray) -> tuple[Pair, ...]:
        edges = list(itertools.combinations(range(len(rewards)), 2))
        draws = np.zeros(len(edges))
        if self.labels == "sampled":
            draws = np.random.default_rng([self.seed, _STREAM[self.split], index]).random(len(edges))
        return tuple(self._pair(*edge, rewards, draw) for edge, draw in zip(edges, draws, strict=True))

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
