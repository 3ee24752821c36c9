"""What a reward is: responses in, one number each out, with the parts it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lit_rlhf.types import PromptRecord, Ragged


@dataclass(frozen=True)
class Response:
    """One completion as a reward sees it."""

    record: PromptRecord
    """Of its prompt: text or messages, answer, further columns."""
    text: str
    """Without the tokens or the string that ended it."""
    ids: tuple[int, ...]
    """Token ids of the policy's tokenizer, the terminator included."""
    finished: bool
    """Ended by the stop set; False where it was cut at the greatest length."""
    group: int
    """Responses to the same prompt have the same number."""


@dataclass(frozen=True)
class Part(Ragged):
    """One addend of a reward, or a number worth watching beside it."""

    name: str
    values: Tensor
    """[S]; NaN where there is none."""


@dataclass(frozen=True)
class Scores(Ragged):
    """The rewards of S responses."""

    total: Tensor
    """[S] float32; NaN where the reward has none and the response is left out of training."""
    parts: tuple[Part, ...] = ()


class Reward(ABC):
    """r(x, y) of whole responses. It holds no trained weight and enters no checkpoint."""

    name: str = "reward"
    """Of its metrics, `reward/<name>`."""
    verifiable: bool = False
    """Whether it, or a part of it, is 1 for a right response and 0 for a wrong one, so that pass@k means something."""

    crosses_ranks: bool = False
    """Whether all ranks must call it together."""

    def check(self) -> None:
        """Raises: InputError: what can be found wrong before any weight is read."""

    def build(self) -> None:
        """Loads what it has to load, once."""

    def to(self, device: torch.device | str) -> None:
        """Moves what it has."""

    def write_to(self, folder: Path) -> None:
        """The run's folder, told before the first call, for those that keep something in files."""

    @abstractmethod
    def __call__(self, responses: Sequence[Response]) -> Scores:
        """The rewards, in order; the scores are on the CPU."""

    def right(self, scores: Scores) -> Tensor:
        """[S] 1 for a right response and 0 for a wrong one, of scores that it gave; asked where it is `verifiable`."""
        return scores.total


class Judge(ABC):
    """P(first is preferred to second) of two responses to the same prompt."""

    def check(self) -> None:
        """Raises: InputError: what can be found wrong before any weight is read."""

    def build(self) -> None:
        """Loads what it has to load, once."""

    def to(self, device: torch.device | str) -> None:
        """Moves what it has."""

    def write_to(self, folder: Path) -> None:
        """The run's folder, told before the first call, for those that keep something in files."""

    @abstractmethod
    def __call__(self, first: Sequence[Response], second: Sequence[Response]) -> Tensor:
        """[E] the probability that first[e] is preferred to second[e], on the CPU; NaN where it has no opinion."""
