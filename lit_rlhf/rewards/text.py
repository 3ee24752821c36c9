"""Rewards of how a response is written: patterns, tags, length, repetition."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from lit_rlhf.errors import InputError
from lit_rlhf.rewards.base import Response, Reward, Scores
from lit_rlhf.rewards.wrapping import Wrapped


class OfResponse(Reward):
    """A reward that is a function of one response and nothing else."""

    @abstractmethod
    def one(self, response: Response) -> float:
        """r(x, y); NaN where there is none."""

    def __call__(self, responses: Sequence[Response]) -> Scores:
        return Scores(torch.tensor([self.one(response) for response in responses], dtype=torch.float32))


@dataclass(frozen=True)
class Matches(OfResponse):
    """r = `right` where a response matches a regular expression (of Python's `re`), else `wrong`.

    Args:
        pattern: a dot matches every character, line ends too.
        full: whether it must match the whole response, white space around it aside; else any place of it.
        ignore_case: whether capitals are small letters.
        right: reward of a match.
        wrong: reward of any other response.
        name: of its metrics.

    Raises:
        InputError: it is no regular expression.
    """

    pattern: str
    full: bool = False
    ignore_case: bool = False
    right: float = 1.0
    wrong: float = 0.0
    name: str = "matches"

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise InputError(f"Matches.pattern: {self.pattern!r} is no regular expression: {error}") from error

    def one(self, response: Response) -> float:
        flags = re.DOTALL | (re.IGNORECASE if self.ignore_case else 0)
        if self.full:
            found = re.fullmatch(self.pattern, response.text.strip(), flags)
        else:
            found = re.search(self.pattern, response.text, flags)
        return self.wrong if found is None else self.right


@dataclass(frozen=True)
class Tags(OfResponse):
    """r = 1 where a response is `<think>...</think> <answer>...</answer>`, each tag once and in order; else 0.

    The format reward of "DeepSeek-R1" by Guo et al. (https://arxiv.org/abs/2501.12948), section 2.2.2.

    Args:
        tags: their names, in order.
        begun: whether the prompt ends with the first tag, as some chat templates write it.
        open_end: whether other text may follow the last tag: `tags: [think]` with an answer after it.
        name: of its metrics.

    Raises:
        InputError: no tag, or the same twice.
    """

    tags: tuple[str, ...] = ("think", "answer")
    begun: bool = False
    open_end: bool = False
    name: str = "tags"

    def __post_init__(self) -> None:
        if not self.tags or len({*self.tags}) < len(self.tags):
            raise InputError(f"Tags.tags is {list(self.tags)}, expected names of tags, each once")

    def one(self, response: Response) -> float:
        text = f"<{self.tags[0]}>{response.text}" if self.begun else response.text
        blocks = r"\s*".join(rf"<{re.escape(tag)}>.*</{re.escape(tag)}>" for tag in self.tags)
        once = all(text.count(mark) == 1 for tag in self.tags for mark in (f"<{tag}>", f"</{tag}>"))
        rest = ".*" if self.open_end else r"\s*"
        return float(once and re.fullmatch(rf"\s*{blocks}{rest}", text, re.DOTALL) is not None)


@dataclass(frozen=True)
class LengthPenalty(OfResponse):
    """r = 0 up to L - C tokens, (L - C - |y|) / C from there to L, and -1 beyond, times `scale`.

    "Soft overlong punishment", equation 13 of "DAPO" by Yu et al. (https://arxiv.org/abs/2503.14476). |y| counts the
    terminator; a response that was cut at L is one of L tokens.

    Args:
        max_tokens: L, mostly the sampler's `max_new_tokens`.
        cache: C, the tokens over which the penalty grows.
        scale: the greatest penalty.
        name: of its metrics.

    Raises:
        InputError: `cache` is not from 1 to `max_tokens`.
    """

    max_tokens: int
    cache: int
    scale: float = 1.0
    name: str = "length"

    def __post_init__(self) -> None:
        if not 1 <= self.cache <= self.max_tokens:
            raise InputError(f"LengthPenalty.cache is {self.cache}, expected 1 to max_tokens={self.max_tokens}")

    def one(self, response: Response) -> float:
        beyond = len(response.ids) - (self.max_tokens - self.cache)
        return -self.scale * min(max(beyond / self.cache, 0.0), 1.0)


@dataclass(frozen=True)
class RepetitionPenalty(OfResponse):
    """r = -scale (1 - distinct / all) of the runs of `n` words or tokens in a response; 0 where it has none.

    The repetition penalty of "Demystifying Long Chain-of-Thought Reasoning in LLMs" by Yeo et al.
    (https://arxiv.org/abs/2502.03373), as one number of a response.

    Args:
        n: pieces of a run.
        scale: the greatest penalty.
        of: words without case, or the policy's tokens.
        name: of its metrics.

    Raises:
        InputError: `n` is below 1.
    """

    n: int = 3
    scale: float = 1.0
    of: Literal["words", "tokens"] = "words"
    name: str = "repetition"

    def __post_init__(self) -> None:
        if self.n < 1 or self.of not in ("words", "tokens"):
            raise InputError(f"RepetitionPenalty(n={self.n}, of={self.of!r}): expected 1 or more, and words or tokens")

    def one(self, response: Response) -> float:
        pieces = response.ids if self.of == "tokens" else response.text.lower().split()
        runs = list(zip(*(pieces[start:] for start in range(self.n)), strict=False))
        return -self.scale * (1 - len({*runs}) / len(runs)) if runs else 0.0


@dataclass(frozen=True)
class CosineLength(Wrapped):
    """r = end + (start - end) (1 + cos(pi |y| / L)) / 2, start and end of right responses or of wrong ones.

    Right responses get more the shorter they are, wrong ones the longer, those cut at the greatest length `cut`. It is
    the cosine reward of "Demystifying Long Chain-of-Thought Reasoning in LLMs" by Yeo et al.
    (https://arxiv.org/abs/2502.03373).

    Args:
        reward: 1 where a response is right and 0 where it is wrong.
        max_tokens: L
        right: start and end: the rewards of a right response of no tokens, and of L.
        wrong: those of a wrong one.
        cut: reward of one that was cut at the greatest length.

    Raises:
        InputError: the reward is not verifiable, or L is below 1.
    """

    reward: Reward
    max_tokens: int
    right: tuple[float, float] = (1.0, 0.5)
    wrong: tuple[float, float] = (-1.0, -0.5)
    cut: float = -1.0

    def __post_init__(self) -> None:
        if not self.reward.verifiable:
            raise InputError(
                f"CosineLength.reward: {type(self.reward).__name__} does not say right or wrong; take one that does, "
                "as MathAnswer"
            )
        if self.max_tokens < 1:
            raise InputError(f"CosineLength.max_tokens is {self.max_tokens}, expected 1 or more")

    def __call__(self, responses: Sequence[Response]) -> Scores:
        found = self.reward(responses)
        pairs = zip(responses, found.total.tolist(), strict=True)
        shaped = [self._shaped(response, right) for response, right in pairs]
        return self.instead(found, torch.tensor(shaped, dtype=torch.float32))

    def _shaped(self, response: Response, right: float) -> float:
        if math.isnan(right) or not response.finished:
            return math.nan if math.isnan(right) else self.cut
        start, end = self.right if right == 1.0 else self.wrong
        return end + (start - end) * (1 + math.cos(math.pi * min(len(response.ids) / self.max_tokens, 1.0))) / 2
