"""Rollouts to pairs: which responses of a group are compared, and how their rewards or a judge become labels."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.rewards.base import Judge, Response
from lit_rlhf.types import PreferenceBatch, Rollout

Labels = Literal["soft", "sampled", "hard"]
"""The probability itself, a winner drawn with it, or the more probable one (1/2 where neither is)."""
Between = Literal["all", "best_worst", "opponents"]
"""Every two responses of a group, its best with its worst, or each of the policy's own with each of the opponent's."""


@dataclass(frozen=True)
class Collected:
    """The sequences of an iteration on this rank, before credit."""

    rollout: Rollout
    responses: tuple[Response, ...]
    """S of them, in order."""
    index: Tensor
    """[N] the place of each prompt in the iteration, over all ranks."""
    draw: int
    """The number of the iteration."""


class Pairs(ABC):
    """How the groups of a rollout become a pair graph."""

    def check(self) -> None:
        """Raises: InputError: what can be found wrong before any weight is read."""

    def build(self) -> None:
        """Loads what it has to load, once."""

    def to(self, device: torch.device | str) -> None:
        """Moves what it has."""

    def write_to(self, folder: Path) -> None:
        """The run's folder, told before the first call, for those that keep something in files."""

    @abstractmethod
    def __call__(self, collected: Collected) -> PreferenceBatch:
        """Pairs of responses to the same prompt, the chosen end being the labelled winner; `drawn` is the rollout."""


class RewardPairs(Pairs):
    """P(y > y') = sigma((r - r') / scale), r the reward of the rollout.

    Args:
        labels: soft, sampled (Bradley-Terry: its expectation is the soft one) or hard (a deterministic judge).
        between: which responses are compared.
        scale: of the reward in nats.
        seed: of sampled labels.

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(self, labels: Labels = "soft", between: Between = "all", scale: float = 1.0, seed: int = 0) -> None:
        _refuse(labels, between)
        if not scale > 0:
            raise InputError(f"model.pairs.scale: {scale}, expected a positive number")
        self.labels, self.between, self.scale, self.seed = labels, between, scale, seed

    def __call__(self, collected: Collected) -> PreferenceBatch:
        first, second = edges(collected.rollout, self.between)
        reward = collected.rollout.reward
        gap = reward[first] - reward[second]
        return labelled(collected, first, second, torch.sigmoid(gap / self.scale), gap, self.labels, self.seed)


class JudgePairs(Pairs):
    """P(y > y') as a judge of texts gives it; a pair on which it has no opinion weighs 0.

    Args:
        judge: asked once per pair and iteration.
        labels: soft, sampled or hard.
        between: which responses are compared.
        seed: of sampled labels.
    """

    def __init__(self, judge: Judge, labels: Labels = "soft", between: Between = "all", seed: int = 0) -> None:
        _refuse(labels, between)
        self.judge, self.labels, self.between, self.seed = judge, labels, between, seed

    def check(self) -> None:
        self.judge.check()

    def build(self) -> None:
        self.judge.build()

    def to(self, device: torch.device | str) -> None:
        self.judge.to(device)

    def write_to(self, folder: Path) -> None:
        self.judge.write_to(folder)

    def __call__(self, collected: Collected) -> PreferenceBatch:
        rollout, responses = collected.rollout, collected.responses
        first, second = edges(rollout, self.between)
        asked = [[responses[place] for place in ends.tolist()] for ends in (first, second)]
        probability = self.judge(*asked).to(rollout.reward) if len(first) else rollout.reward[:0]
        known = torch.isfinite(probability)
        gap = torch.logit(torch.where(known, probability, 0.5).clamp(1e-6, 1 - 1e-6))
        pairs = labelled(collected, first, second, torch.where(known, probability, 0.5), gap, self.labels, self.seed)
        return dataclasses.replace(pairs, weight=pairs.pair_weight * known)


def edges(rollout: Rollout, between: Between) -> tuple[Tensor, Tensor]:
    """[E], [E] the two ends of every pair, the lower index first."""
    owner, reward = rollout.sequences.prompt_of, rollout.reward
    counts = rollout.sequence_weight > 0
    same = (owner[:, None] == owner[None, :]) & counts[:, None] & counts[None, :]
    if between == "opponents":
        if rollout.opponent is None:
            raise InputError("model.pairs: between=opponents, and the algorithm has no opponent; set model.opponent")
        same &= rollout.opponent[:, None] != rollout.opponent[None, :]
    first, second = torch.triu(same, diagonal=1).nonzero(as_tuple=True)
    if between != "best_worst":
        return first, second
    ends = [_best_worst(reward, (owner == prompt) & counts) for prompt in range(len(rollout.sequences.prompt_lengths))]
    found = torch.tensor([pair for pair in ends if pair is not None], dtype=torch.long, device=owner.device).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _best_worst(reward: Tensor, own: Tensor) -> tuple[int, int] | None:
    rows = own.nonzero()[:, 0].tolist()
    if len(rows) < 2:
        return None
    best, worst = max(rows, key=lambda row: float(reward[row])), min(rows, key=lambda row: float(reward[row]))
    return (rows[0], rows[1]) if best == worst else (min(best, worst), max(best, worst))


def labelled(
    collected: Collected, first: Tensor, second: Tensor, probability: Tensor, gap: Tensor, labels: Labels, seed: int
) -> PreferenceBatch:
    """The pair graph with P(first > second) [E] made into labels; each pair weighs what its lighter end does."""
    rollout = collected.rollout
    if labels == "sampled":
        drawn = torch.from_numpy(_uniforms(collected, first, second, seed)).to(probability)
        wins, probability = drawn < probability, torch.ones_like(probability)
    else:
        wins = probability >= 0.5
        probability = torch.where(wins, probability, 1 - probability)
        if labels == "hard":
            probability = torch.where(probability > 0.5, 1.0, 0.5)
    weight = rollout.sequence_weight
    return PreferenceBatch(
        rollout.sequences, torch.where(wins, first, second), torch.where(wins, second, first), probability,
        torch.where(wins, gap, -gap), torch.minimum(weight[first], weight[second]), rollout,
    )


def _uniforms(collected: Collected, first: Tensor, second: Tensor, seed: int) -> np.ndarray:
    """[E] one number per pair, seeded by the prompt's place and the two responses' places in its group."""
    owner = collected.rollout.sequences.prompt_of.tolist()
    index, place, seen = collected.index.tolist(), [], {}
    for prompt in owner:
        place.append(seen.get(prompt, 0))
        seen[prompt] = place[-1] + 1
    return np.array([
        np.random.default_rng([seed, collected.draw, index[owner[a]], place[a], place[b]]).random()
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ])


def _refuse(labels: str, between: str) -> None:
    for name, value, choices in (("labels", labels, Labels), ("between", between, Between)):
        if value not in get_args(choices):
            raise InputError(f"model.pairs.{name}: {value!r}, expected {', '.join(get_args(choices))}")


