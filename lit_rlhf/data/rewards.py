"""What is done to the rewards of a file before anything reads them: an ordered list of small steps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from lit_rlhf.data.records import RowError
from lit_rlhf.errors import InputError


class RewardStep(ABC):
    """A function of one reward."""

    @abstractmethod
    def __call__(self, reward: float) -> float:
        """The reward after this step."""


@dataclass(frozen=True)
class Logit(RewardStep):
    """log(p / (1 - p)): the Bradley-Terry reward, in nats, of a response that beats a fixed one with probability p.

    Raises:
        RowError: p is not between 0 and 1.
    """

    def __call__(self, reward: float) -> float:
        if not 0 < reward < 1:
            raise RowError(
                f"column reward: found {reward}, expected a probability between 0 and 1, ends excluded, for Logit"
            )
        return math.log(reward) - math.log1p(-reward)


@dataclass(frozen=True)
class Clip(RewardStep):
    """min(max(r, low), high)."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"Clip: low={self.low} is not below high={self.high}")

    def __call__(self, reward: float) -> float:
        return min(max(reward, self.low), self.high)


@dataclass(frozen=True)
class Scale(RewardStep):
    """factor * (r - shift)."""

    factor: float = 1.0
    shift: float = 0.0

    def __call__(self, reward: float) -> float:
        return self.factor * (reward - self.shift)


def transformed(reward: float, steps: Sequence[RewardStep]) -> float:
    """The reward after all steps, in their order."""
    for step in steps:
        reward = step(reward)
    return reward
