"""The exact reward of the built-in task."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from lit_rlhf.data import grammar
from lit_rlhf.errors import InputError
from lit_rlhf.rewards.base import Response, Reward, Scores


class ReviewReward(Reward):
    """r(x, y) of the built-in task, in nats once divided by tau, without noise (`lit_rlhf.data.grammar.rewards`).

    Raises:
        InputError: a prompt or response is not one of the task's.
    """

    name = "reviews"

    def __call__(self, responses: Sequence[Response]) -> Scores:
        return Scores(torch.tensor([_reward(response) for response in responses], dtype=torch.float32))


def _reward(response: Response) -> float:
    prompt = response.record.prompt
    if not isinstance(prompt, str) or prompt not in grammar.PROMPTS:
        raise InputError(
            f"ReviewReward: {response.record.row or 'a row'}: the prompt {prompt!r} is none of the built-in task's "
            f"{len(grammar.PROMPTS)}; take Reviews for data, or another reward"
        )
    found = _table(prompt).get(response.ids)
    if found is None:
        raise InputError(
            f"ReviewReward: the response {response.text!r} of {len(response.ids)} tokens is none of the built-in task: "
            f"one ends at {grammar.EOS} or at word {grammar.MAX_WORDS}; sample with max_new_tokens={grammar.MAX_WORDS}"
        )
    return found


@functools.cache
def _table(prompt: str) -> dict[tuple[int, ...], float]:
    """The reward of every response by its token ids."""
    keys = (tuple(ids.tolist()) for ids in grammar.response_ids())
    return dict(zip(keys, grammar.rewards(prompt).tolist(), strict=True))
