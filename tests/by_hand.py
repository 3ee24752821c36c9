"""A composition's loss on a small batch, and what its equation is made of, as plain numbers of a loop over tokens."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from support import Bigram, FrozenBigram, preferences, scored

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.types import Batch, PreferenceBatch, ScoredBatch, Sequences


@dataclass(frozen=True)
class Response:
    """Log-probs in nats of the tokens of a completion under `Bigram()` and, as the reference, `FrozenBigram()`."""

    policy: list[float]
    reference: list[float]
    collision: list[float]
    """sum_v pi_v^2 at each token."""

    @property
    def logp(self) -> float:
        return sum(self.policy)

    @property
    def ratio(self) -> float:
        return sum(self.policy) - sum(self.reference)

    @property
    def mean_logp(self) -> float:
        return self.logp / len(self.policy)

    @property
    def aligned(self) -> float:
        """The geometric mean of pi_t / sum_v pi_v^2."""
        factors = (math.exp(logp) / c for logp, c in zip(self.policy, self.collision, strict=True))
        return math.prod(factors) ** (1 / len(self.policy))

    @property
    def mean_ratio(self) -> float:
        return self.ratio / len(self.policy)


def posterior() -> dict:
    """The parts of a posterior form."""
    return {"actor": Bigram(), "reference": FrozenBigram()}


def value(algorithm: Algorithm, batch: Batch) -> float:
    """The loss of one step on this batch: every term over the count of its unit."""
    output = algorithm.loss(algorithm.evidence(batch), batch)
    return sum((term.total / batch.count(term.unit)).item() for term in output.terms)


def drawn(seed: int = 0, prompts: int = 4) -> PreferenceBatch:
    """Pairs with hard labels and reward gaps."""
    batch = preferences(seed, prompts)
    return dataclasses.replace(batch, probability=torch.ones_like(batch.probability))


def labelled(seed: int = 0) -> ScoredBatch:
    """Responses that are good (1) or bad (0)."""
    batch = scored(seed, prompts=4, per_prompt=2)
    return dataclasses.replace(batch, reward=(batch.reward > 0).float())


def responses(sequences: Sequences) -> list[Response]:
    """Every completion."""
    policy, reference = _table(Bigram()), _table(FrozenBigram().bigram)
    prompts = sequences.prompt_ids.split(sequences.prompt_lengths.tolist())
    completions = sequences.completion_ids.split(sequences.completion_lengths.tolist())
    found = []
    for prompt, completion in zip(sequences.prompt_of.tolist(), completions, strict=True):
        tokens = [int(prompts[prompt][-1]), *completion.tolist()]
        steps = list(zip(tokens, tokens[1:], strict=False))
        collision = [sum(math.exp(logp) ** 2 for logp in policy[a]) for a, _ in steps]
        found.append(Response([policy[a][b] for a, b in steps], [reference[a][b] for a, b in steps], collision))
    return found


def pairs(batch: PreferenceBatch) -> list[tuple[Response, Response]]:
    """The chosen and the rejected end of every pair."""
    every = responses(batch.sequences)
    return [(every[w], every[l]) for w, l in zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True)]


def rewarded(batch: ScoredBatch) -> list[tuple[Response, float]]:
    """Every response with its reward."""
    return list(zip(responses(batch.sequences), batch.reward.tolist(), strict=True))


def groups(batch: ScoredBatch) -> list[list[tuple[Response, float]]]:
    """The same, by prompt."""
    found: list[list[tuple[Response, float]]] = [[] for _ in batch.sequences.prompt_lengths]
    for prompt, one in zip(batch.sequences.prompt_of.tolist(), rewarded(batch), strict=True):
        found[prompt].append(one)
    return found


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def softmax(values: list[float]) -> list[float]:
    total = sum(map(math.exp, values))
    return [math.exp(value) / total for value in values]


def chosen_nll(batch: PreferenceBatch) -> float:
    """Per token of the chosen ends."""
    chosen = [w for w, _ in pairs(batch)]
    return -sum(w.logp for w in chosen) / sum(len(w.policy) for w in chosen)


def _table(bigram: Bigram) -> list[list[float]]:
    return bigram.table.detach().double().log_softmax(-1).tolist()
