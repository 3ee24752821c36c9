"""Answers that no policy gave."""

import torch

from lit_rlhf.commands.evaluation.measures import Answers
from lit_rlhf.rewards.base import Judge, Part, Response, Reward, Scores
from lit_rlhf.types import PromptRecord


def answers(rewards, texts=None, samples=2, cut=(), parts=None, **more):
    """One completion per reward, those of a prompt one after the other."""
    texts = [f"text {index}" for index in range(len(rewards))] if texts is None else texts
    responses = tuple(
        Response(
            PromptRecord("p", row=f"f:{index // samples}"), text, ids=tuple(range(len(text.split()) + 1)),
            finished=index not in cut, group=index // samples,
        )
        for index, text in enumerate(texts)
    )
    held = {name: torch.tensor(values) for name, values in (parts or {}).items()}
    more = {name: torch.tensor(values) for name, values in more.items()}
    return Answers(responses, samples, torch.tensor(rewards), held, **more)


class Words(Reward):
    """The number of words."""

    name = "words"

    def __call__(self, responses):
        count = torch.tensor([float(len(response.text.split())) for response in responses])
        return Scores(count, (Part("half", count / 2),))


class Right(Reward):
    """1 where the completion begins with the prompt's answer."""

    name, verifiable = "right", True

    def __call__(self, responses):
        return Scores(torch.tensor([float(response.text.startswith(response.record.answer)) for response in responses]))


class Broken(Reward):
    """Fails in the middle of an evaluation."""

    def __call__(self, responses):
        raise LookupError("odd")


class LikesTheFirst(Judge):
    """Prefers whatever it is shown first."""

    def __call__(self, first, second):
        return torch.ones(len(first))
