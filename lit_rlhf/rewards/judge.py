"""Judges: by a reward, or by a function of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.rewards.base import Judge, Response, Reward
from lit_rlhf.rewards.function import columns
from lit_rlhf.rewards.guard import Guarded, wrong
from lit_rlhf.rewards.pool import Failure, Job

_OF_ONE = ("completions", "completion_ids", "finished", "groups")
"""Columns that say something of one response only."""


@dataclass(frozen=True)
class RewardJudge(Judge):
    """P(y > y' | x) = sigma((r(x, y) - r(x, y')) / tau), the law of Bradley and Terry; or 1, 0 and 1/2 for a tie.

    Args:
        reward: r
        tau: what a difference of rewards is divided by; it makes nats of them.
        deterministic: whether the higher reward always wins.

    Raises:
        InputError: `tau` is not above 0.
    """

    reward: Reward
    tau: float = 1.0
    deterministic: bool = False

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise InputError(
                f"RewardJudge.tau is {self.tau}, expected a number above 0; deterministic=true is the limit of 0"
            )

    def check(self) -> None:
        self.reward.check()

    def build(self) -> None:
        self.reward.build()

    def to(self, device: torch.device | str) -> None:
        self.reward.to(device)

    def write_to(self, folder: Path) -> None:
        self.reward.write_to(folder)

    def __call__(self, first: Sequence[Response], second: Sequence[Response]) -> Tensor:
        rewards = self.reward([*first, *second]).total
        gap = rewards[: len(first)] - rewards[len(first) :]
        if self.deterministic:
            return torch.where(gap.isnan(), gap, (1 + gap.sign()) / 2)
        return (gap / self.tau).sigmoid()


@dataclass(eq=False)
class FunctionJudge(Guarded, Judge):
    """P(y > y' | x) = f(x, y, y') by a function of the user's, which returns a probability, or None for no opinion.

    Batched it is called as `f(prompts, first, second, **columns)` with lists of texts, `answer` and the other columns
    of the data, and returns a list; else as `f(first, second, **arguments)` for each pair of `Response`s. A number that
    is no probability is a failure like any other. All else, the further arguments among it, is as for `Function`.

    Args:
        default: what a failing pair gets where `on_error` is default.
        both_orders: ask twice, the second time in the other order, and take (P(y > y') + 1 - P(y' > y)) / 2, which has
            no bias to a place.

    Raises:
        InputError: no such function, or arguments that it does not take.
        RunFailed: a call failed and `on_error` is raise.
    """

    default: float = 0.5
    both_orders: bool = False

    classes: ClassVar[tuple[type, ...]] = (Response,)
    positional: ClassVar[int] = 2

    def __call__(self, first: Sequence[Response], second: Sequence[Response]) -> Tensor:
        found = self._judged(first, second)
        return (found + 1 - self._judged(second, first)) / 2 if self.both_orders else found

    def _judged(self, first: Sequence[Response], second: Sequence[Response]) -> Tensor:
        if self._call is None:
            self.check()
        pairs = list(zip(first, second, strict=True))
        return self.asked(
            self._shares(len(pairs)),
            lambda places: self._job([pairs[place] for place in places]),
            lambda place: _sample(*pairs[place]),
        ).values

    def _shares(self, count: int) -> list[list[int]]:
        size = -(-count // max(1, self.workers)) if self.batched else 1
        return [list(range(start, min(start + size, count))) for start in range(0, count, max(1, size))]

    def _job(self, pairs: Sequence[tuple[Response, Response]]) -> Job:
        if not self.batched:
            return pairs[0], self.arguments
        known = columns([first for first, _ in pairs])
        texts = {"first": [first.text for first, _ in pairs], "second": [second.text for _, second in pairs]}
        return (), self.keywords({name: known[name] for name in known if name not in _OF_ONE} | texts)

    def number(self, value: Any) -> float | None | Failure:
        found = super().number(value)
        if isinstance(found, float) and not 0 <= found <= 1:
            return wrong(f"returned {found:g}, expected a probability")
        return found


def _sample(first: Response, second: Response) -> dict[str, Any]:
    return {"row": first.record.row, "prompt": first.record.prompt, "first": first.text, "second": second.text}
