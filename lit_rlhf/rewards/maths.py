"""Verifiable rewards of answers to sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from lit_rlhf.errors import InputError
from lit_rlhf.rewards.answers import Answer, final_answer, stated_answer
from lit_rlhf.rewards.base import Part, Response, Reward, Scores


@dataclass(frozen=True)
class MathAnswer(Reward):
    r"""r = 1 where the final answer of a response equals the row's, else 0.

    `#### 42`, `\boxed{42}`, `<answer>42</answer>`, "the answer is $42.00." and `84/2` are the same. Numbers are
    compared as fractions; what is no number as text without spaces and case. The row's `answer` may be the answer or a
    solution that marks it, as GSM8K's are ("Training Verifiers to Solve Math Word Problems" by Cobbe et al.,
    https://arxiv.org/abs/2110.14168). The part `answered` is 1 where a response has a final answer at all.

    Args:
        last_number: whether the last number of a response is its answer where it marks none.
        tolerance: the greatest relative difference of two equal numbers.
        name: of its metrics.

    Raises:
        InputError: a row has no answer.
    """

    last_number: bool = True
    tolerance: float = 0.0
    name: str = "maths"

    verifiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise InputError(f"MathAnswer.tolerance is {self.tolerance}, expected a share from 0 to 1, without 1")

    def __call__(self, responses: Sequence[Response]) -> Scores:
        found = [final_answer(response.text, self.last_number) for response in responses]
        right = [
            answer is not None and answer.agrees(_stated(response), self.tolerance)
            for answer, response in zip(found, responses, strict=True)
        ]
        answered = torch.tensor([answer is not None for answer in found], dtype=torch.float32)
        return Scores(torch.tensor(right, dtype=torch.float32), (Part("answered", answered),))


def _stated(response: Response) -> Answer:
    if response.record.answer is None:
        raise InputError(
            f"MathAnswer: {response.record.row or 'a row'} has no answer; give the data a column answer, "
            "or name yours in data.columns"
        )
    return stated_answer(response.record.answer)
