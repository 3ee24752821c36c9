"""Answers that no policy gave."""

import torch

from lit_rlhf.commands.evaluation.measures import Answers
from lit_rlhf.rewards.base import Response
from lit_rlhf.types import PromptRecord


def answers(rewards, texts=None, samples=2, cut=(), parts=None, **more):
    """One completion per reward, those of a prompt one after the other."""
    texts = [f"text {index}" for index in range(len(rewards))] if texts is None else texts
    responses = tuple(
        Response(PromptRecord("p", row=f"f:{index // samples}"), text, tuple(range(len(text.split()) + 1)), index not in cut, index // samples)
        for index, text in enumerate(texts)
    )
    held = {name: torch.tensor(values) for name, values in (parts or {}).items()}
    more = {name: torch.tensor(values) for name, values in more.items()}
    return Answers(responses, samples, torch.tensor(rewards), held, **more)
