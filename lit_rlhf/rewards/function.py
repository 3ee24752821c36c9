"""Rewards that are functions of the user's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lit_rlhf.rewards.base import Part, Response, Reward, Scores
from lit_rlhf.rewards.guard import Guarded
from lit_rlhf.rewards.pool import Job


@dataclass(eq=False)
class Function(Guarded, Reward):
    """r = f(x, y) by a function of the user's, in YAML `{function: my_rewards.length_bonus, arguments: {target: 20}}`.

    Batched it is called as `f(prompts, completions, **columns)` and returns a number, or None for no reward, for each.
    By name and as far as it takes them it is given, in lists:

    - `prompts`: text or messages, as in the data; `completions`: text, without what ended it;
    - `answer`, and every other column of the data by its own name, None where a row has none;
    - `completion_ids`: the policy's tokens; `finished`: False where the completion was cut at the greatest length;
      `groups`: the same number for completions of the same prompt;
    - `arguments`, as they are.

    With `batched` False it is called as `f(response, **arguments)` for each `Response` and returns a number or None.
    Workers share a batch by whole groups. Functions that are `async` are awaited together, all calls at once.
    A batch that raises is asked again one by one, so that one bad sample costs no other; a batch that hangs is lost
    whole (`batched` False gives each response a time of its own).

    Args:
        as_messages: completions of conversations are lists of one message of the assistant, as TRL gives them.

    Raises:
        InputError: no such function, or arguments that it does not take.
        RunFailed: a call failed and `on_error` is raise.
    """

    as_messages: bool = False

    classes: ClassVar[tuple[type, ...]] = (Response,)

    def __call__(self, responses: Sequence[Response]) -> Scores:
        if self._call is None:
            self.check()
        alone = [[place] for place in range(len(responses))]
        answers = self.asked(
            _shares(responses, max(1, self.workers)) if self.batched else alone,
            lambda places: self._job([responses[place] for place in places]),
            lambda place: sample(responses[place]),
        )
        return Scores(answers.values, (Part("failures", answers.failed),))

    def _job(self, responses: Sequence[Response]) -> Job:
        if not self.batched:
            return (responses[0],), self.arguments
        found = columns(responses)
        if self.as_messages:
            found["completions"] = [_as_message(response) for response in responses]
        return (), self.keywords(found)


def columns(responses: Sequence[Response]) -> dict[str, Any]:
    """What is known of responses, in lists by name."""
    names = dict.fromkeys(name for response in responses for name in response.record.extra)
    return {name: [response.record.extra.get(name) for response in responses] for name in names} | {
        "prompts": [response.record.prompt for response in responses],
        "completions": [response.text for response in responses],
        "answer": [response.record.answer for response in responses],
        "completion_ids": [list(response.ids) for response in responses],
        "finished": [response.finished for response in responses],
        "groups": [response.group for response in responses],
    }


def sample(response: Response) -> dict[str, Any]:
    """What the file of failures says of a response."""
    return {"row": response.record.row, "prompt": response.record.prompt, "completion": response.text}


def _as_message(response: Response) -> str | list[dict[str, str]]:
    if isinstance(response.record.prompt, str):
        return response.text
    return [{"role": "assistant", "content": response.text}]


def _shares(responses: Sequence[Response], count: int) -> list[list[int]]:
    """The places of responses in at most `count` runs of whole groups, about as many each."""
    runs = itertools.groupby(range(len(responses)), lambda place: responses[place].group)
    groups = [list(places) for _, places in runs]
    cuts = [len(groups) * share // count for share in range(count + 1)]
    shares = [list(itertools.chain.from_iterable(groups[start:stop])) for start, stop in itertools.pairwise(cuts)]
    return [share for share in shares if share]
