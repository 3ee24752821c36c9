"""What rewards made of other rewards have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lit_rlhf.rewards.base import Part, Reward, Scores


class Made(Reward):
    """A reward made of others, which it builds and moves."""

    @property
    @abstractmethod
    def inner(self) -> Sequence[Reward]:
        """The others."""

    @property
    def verifiable(self) -> bool:
        return any(reward.verifiable for reward in self.inner)

    @property
    def crosses_ranks(self) -> bool:
        return any(reward.crosses_ranks for reward in self.inner)

    def check(self) -> None:
        for reward in self.inner:
            reward.check()

    def build(self) -> None:
        for reward in self.inner:
            reward.build()

    def to(self, device: torch.device | str) -> None:
        for reward in self.inner:
            reward.to(device)

    def write_to(self, folder: Path) -> None:
        for reward in self.inner:
            reward.write_to(folder)


class Wrapped(Made):
    """A function of one other reward, by whose name it goes; what that was before is the part `raw`."""

    reward: Reward

    @property
    def inner(self) -> Sequence[Reward]:
        return (self.reward,)

    @property
    def name(self) -> str:
        return self.reward.name

    def right(self, scores: Scores) -> Tensor:
        raw = next(part.values for part in scores.parts if part.name == "raw")
        return self.reward.right(Scores(raw, scores.parts))

    @staticmethod
    def instead(found: Scores, total: Tensor) -> Scores:
        """`total` [S] in the place of what was found."""
        raw = () if any(part.name == "raw" for part in found.parts) else (Part("raw", found.total),)
        return Scores(total, (*raw, *found.parts))
