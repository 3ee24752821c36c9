"""The canonical record that every layout of rows becomes, and the tokenised prompt group made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lit_rlhf.types import PromptRecord

Message = dict[str, Any]
"""{"role": ..., "content": ...}, as chat templates take it."""
Text = str | tuple[Message, ...]
"""Plain text, or messages."""


class RowError(ValueError):
    """What is wrong with one row: the column, what was found, what was expected. The reader adds the place."""


@dataclass(frozen=True)
class Completion:
    """One response to a prompt."""

    text: Text
    reward: float | None = None
    label: float | None = None
    """1 desirable, 0 not."""
    clipped: bool = False
    """Whether the reward stands at a bound of its source's scale, and so has a sign but no size."""


@dataclass(frozen=True)
class Preference:
    """A pair of a record's completions, by index."""

    chosen: int
    rejected: int
    probability: float = 1.0
    """That chosen is preferred."""
    gap: float | None = None
    """Reward of chosen less reward of rejected."""
    weight: float = 1.0


@dataclass(frozen=True)
class Record:
    """A prompt with its responses and what is known of their reward."""

    prompt: Text | None
    """None for running text, which has no prompt."""
    completions: tuple[Completion, ...]
    preferences: tuple[Preference, ...] = ()
    weight: float = 1.0
    answer: str | None = None
    row: str = ""
    """Where it came from: file:row."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Columns that are not part of the format."""


@dataclass(frozen=True)
class Pair:
    """A pair of a group's completions, by index."""

    chosen: int
    rejected: int
    probability: float = 1.0
    """That chosen is preferred; 1/2 is a tie."""
    gap: float | None = None
    """Reward of chosen less reward of rejected, where it is known."""
    weight: float = 1.0


@dataclass(frozen=True)
class Group:
    """A tokenised prompt with all its completions: what stays together in every plan."""

    prompt_ids: np.ndarray
    """[P] at least one token."""
    completions: tuple[np.ndarray, ...]
    """Token ids of each completion, at least one each; none where prompts alone are read."""
    token_weights: tuple[np.ndarray, ...] | None = None
    """Weight of every completion token; None is 1 everywhere."""
    rewards: tuple[float, ...] | None = None
    labels: tuple[float, ...] | None = None
    pairs: tuple[Pair, ...] = ()
    row: str = ""
    """Where it came from: file:row."""
    weight: float = 1.0
    record: PromptRecord | None = None
    """What a reward may know of it, where prompts are read."""
