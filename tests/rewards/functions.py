"""Functions of a user's, good and bad; those that end processes or hang are called in processes of their own."""

from __future__ import annotations

import asyncio
import os
import time
from fractions import Fraction

HANG = 600.0


def length(completions, target=0):
    return [len(text) - target for text in completions]


def told(prompts, completions, answer, colour, finished, completion_ids, groups, **columns):
    """Refuses what it was not promised."""
    assert prompts == ["why?"] * len(completions) and finished == [True] * len(completions)
    assert columns == {"bonus": 2.0}
    columns = zip(answer, colour, completion_ids, groups, strict=True)
    return [float(number) + len(word or "") + len(ids) + 100 * group for number, word, ids, group in columns]


def bad(completions):
    """Wrong on the completion that says how."""
    if "raise" in completions:
        raise ValueError("no such word")
    values = {"nan": float("nan"), "inf": float("inf"), "word": "high", "none": None, "half": Fraction(1, 2)}
    return [values.get(text, len(text)) for text in completions]


def tensor(completions):
    import torch

    return torch.tensor([len(text) for text in completions])


def members(groups):
    """The size of the call."""
    return [len(groups)] * len(groups)


def count(completions):
    return [1.0] * (len(completions) + completions.count("more"))


def mean(completions):
    return float(len(completions))


def asleep(completions):
    time.sleep(HANG)


def one(response, scale=1.0):
    if response.text == "hang":
        time.sleep(HANG)
    if response.text == "die":
        os._exit(3)
    if response.text == "raise":
        raise ValueError("no such word")
    return scale * len(response.text)


def process(completions):
    return [os.getpid()] * len(completions)


def kinds(completions):
    return [float(text == [{"role": "assistant", "content": "yes"}]) for text in completions]


async def together(response):
    """Ends once as many calls are under way as its response says."""
    global _waiting
    _waiting += 1
    while _waiting < int(response.text):
        await asyncio.sleep(0.001)
    return _waiting


async def stuck(response):
    if response.text == "hang":
        await asyncio.sleep(HANG)
    if response.text == "raise":
        raise ValueError("no such word")
    return len(response.text)


async def batched(completions):
    await asyncio.sleep(0)
    return [len(text) for text in completions]


def longer(first, second):
    gaps = [len(one) - len(other) for one, other in zip(first, second, strict=True)]
    return [0.5 if gap == 0 else float(gap > 0) for gap in gaps]


def longer_one(first, second, tie=0.5):
    return tie if len(first.text) == len(second.text) else len(first.text) > len(second.text)


def told_pairs(prompts, first, second, answer, colour, **columns):
    assert (prompts, first, second, answer, colour, columns) == (["why?"], ["a"], ["a"], ["x"], ["red"], {})
    return [0.5]


def first_place(first, second):
    return [1.0] * len(first)


def gaps(first, second):
    return [len(one) - len(other) for one, other in zip(first, second, strict=True)]


def never(first, second):
    time.sleep(HANG)


class Flaky:
    """Raises the first times that it is called."""

    def __init__(self, times: int = 1) -> None:
        self.left = times

    def __call__(self, completions):
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError("try again")
        return [len(text) for text in completions]


class Scaled:
    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __call__(self, completions):
        return [self.scale * len(text) for text in completions]


_waiting = 0
