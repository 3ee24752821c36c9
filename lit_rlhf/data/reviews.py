"""`Reviews`, the data of the built-in task: feedback on short reviews, drawn from the exact world of `grammar`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from lit_rlhf.data import grammar
from lit_rlhf.data.collation import Signal
from lit_rlhf.data.planner import PlannedData, Split
from lit_rlhf.data.records import Group, Pair
from lit_rlhf.errors import InputError

Labels = Literal["soft", "sampled", "hard"]
_STREAM = {"train": 0, "val": 1, "test": 2, "predict": 3}


class Reviews(PlannedData):
    """Feedback of the kind that the composition reads, on responses of the writer that the tiny model imitates.

    The responses y of a prompt x are drawn from the writer's law mu(y|x) (`grammar.log_law`), to which the shipped
    model is within 1e-3 nats, so every response can appear and, with the model as the reference, mu = u. With the
    reward r(x, y) of `grammar.rewards`:

    - pairs: all pairs of the K responses of a group, the one of higher reward chosen, with reward_gap = r - r' and
      labels `soft` (probability = sigma(gap), Bradley-Terry), `sampled` (the winner is drawn with that probability)
      or `hard` (the higher reward wins always; 1/2 where they are equal);
    - scored responses: K of them, with their rewards;
    - unpaired labels: one response, good with probability sigma(r - E_mu r), or where r > E_mu r if labels are `hard`;
    - demonstrations: one response, of the better writer mu e^r / Z.

    Every prompt is as frequent as any other. Validation, test and prediction data are drawn in the same way, apart.

    Args:
        batch_size: prompts in an optimizer step, over all ranks.
        micro_batch_tokens: most tokens in a micro-batch.
        seed: of the draws and of their order.
        num_workers: processes that make items.
        responses: K, of pairs and scores.
        labels: how reward differences become preferences.
        size: groups in an epoch.
        val_size: groups of validation, test and prediction data each.

    Raises:
        InputError: an argument is out of range, or the tokenizer is not the built-in task's.
    """

    def __init__(
        self,
        batch_size: int = 64,
        micro_batch_tokens: int = 8192,
        seed: int = 0,
        num_workers: int = 0,
        responses: int = 4,
        labels: Labels = "soft",
        size: int = 32768,
        val_size: int = 512,
    ) -> None:
        super().__init__(batch_size, micro_batch_tokens, seed, num_workers)
        for name, value, least in (("responses", responses, 2), ("size", size, 1), ("val_size", val_size, 0)):
            if value < least:
                raise InputError(f"data.{name}: {value}, expected {least} or more")
        self.responses, self.labels, self.size, self.val_size = responses, labels, size, val_size

    max_completion_tokens = grammar.MAX_WORDS
    """A review that has not ended by then is cut."""

    def reward_of(self, prompt_ids: np.ndarray, completion_ids: np.ndarray) -> float | None:
        """The reward of one response; None where this is not one of the task's prompts and responses."""
        prompt, response = grammar.decoded(prompt_ids), tuple(grammar.TOKENS[index] for index in completion_ids)
        known = prompt in grammar.PROMPTS and response in grammar.responses()
        return float(grammar.rewards(prompt)[grammar.responses().index(response)]) if known else None

    def attach(self, algorithm: Any) -> None:
        super().attach(algorithm)
        ids = self.tokenizer.convert_tokens_to_ids(list(grammar.TOKENS))
        if ids != list(range(len(grammar.TOKENS))):
            raise InputError(
                f"data: Reviews speaks {len(grammar.TOKENS)} words of its own, which the tokenizer of the model does not have. "
                "Use the model of lit_rlhf/assets/reviews (or its tokenizer), or data: Files with data for this model"
            )

    def load(self, split: Split) -> ReviewGroups:
        n = self.size if split == "train" else self.val_size
        return ReviewGroups(split, n, self.responses, self.signal, self.labels, self.seed)

    def tokens(self, groups: ReviewGroups) -> np.ndarray:
        return groups.tokens

    def strata(self, groups: ReviewGroups) -> np.ndarray:
        return groups.good if self.signal == "label" else np.zeros(len(groups))


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
        single = signal in ("label", "demonstration")
        self.drawn = np.empty((n, 1 if single else responses), dtype=np.int64)
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
        return Group(
            prompt_ids=np.array(grammar.encoded(grammar.PROMPTS[prompt])),
            completions=tuple(ids[response] for response in self.drawn[index]),
            rewards=tuple(rewards.tolist()) if self.signal == "reward" else None,
            labels=(float(self.good[index]),) if self.signal == "label" else None,
            pairs=self._pairs(index, rewards) if self.signal in ("gap", "preference") else (),
            row=f"reviews:{self.split}:{index + 1}",
        )

    @property
    def tokens(self) -> np.ndarray:
        """[n] unique tokens of each group."""
        prompts = np.array([len(grammar.encoded(prompt)) for prompt in grammar.PROMPTS])
        lengths = np.array([len(ids) for ids in grammar.response_ids()])
        return prompts[self.prompts] + lengths[self.drawn].sum(1)

    @property
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
