"""What becomes of a group that is too long."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lit_rlhf.data.records import Group
from lit_rlhf.errors import InputError

Overflow = Literal["error", "drop", "truncate_prompt_left", "truncate_completion_right"]


@dataclass(frozen=True)
class Limits:
    """The most tokens that a row may have.

    Args:
        max_length: of the prompt and any one completion together; None is no limit.
        max_prompt_length: of the prompt; None is no limit.
        room: what is left for the completion of a prompt alone.
        context: of the prompt and any one completion together, by the model that completes prompts; None is no limit.
        overflow: what to do with a longer row. `error` and `drop` speak for themselves. `truncate_prompt_left` cuts
            the beginning of the prompt (not its BOS), `truncate_completion_right` the end of completions, terminator
            included. A row that is still too long, because the policy does not cut the other end, is dropped.
    """

    max_length: int | None = None
    max_prompt_length: int | None = None
    overflow: Overflow = "error"
    room: int = 0
    context: int | None = None

    def longest(self, group: Group) -> int:
        """Tokens of the longest completion that the group has or is to get."""
        return max((len(ids) for ids in group.completions), default=self.room)

    @property
    def length(self) -> tuple[str, int | None]:
        """The narrower of the limits on prompt and completion together, with its name."""
        if self.context is not None and (self.max_length is None or self.context < self.max_length):
            return "the model's context", self.context
        return "max_length", self.max_length


@dataclass(frozen=True)
class Fitted:
    """A group within the limits."""

    group: Group | None
    """None: it is left out."""
    why: str = ""
    """What is too long; empty where nothing is."""
    cut: bool = False


def fitted(group: Group, limits: Limits, bos: int | None = None) -> Fitted:
    """The group cut as the limits say. `bos` stays at the front of a prompt that is cut."""
    why = too_long(group, limits)
    if not why:
        return Fitted(group)
    if limits.overflow == "truncate_prompt_left":
        group = _prompt_cut(group, limits, bos)
    if limits.overflow == "truncate_completion_right":
        group = _completions_cut(group, limits)
    return Fitted(None, why) if too_long(group, limits) else Fitted(group, why, cut=True)


def refuse_for_prompts(limits: Limits) -> None:
    """Raises: InputError: limits that no prompt alone can keep, or a policy that does nothing for one."""
    name, most = limits.length
    if limits.overflow == "truncate_completion_right":
        raise InputError(
            "data.overflow: truncate_completion_right cuts completions, and the algorithm reads prompts alone and samples "
            "their completions itself; choose error, drop or truncate_prompt_left"
        )
    if most is not None and limits.room >= most:
        raise InputError(
            f"model.sampler.max_new_tokens: {limits.room} tokens leave no room for a prompt, {name} is {most}; lower it"
        )


def too_long(group: Group, limits: Limits) -> str:
    """What is too long, in words; empty where nothing is."""
    prompt, longest = len(group.prompt_ids), limits.longest(group)
    name, most = limits.length
    if limits.max_prompt_length is not None and prompt > limits.max_prompt_length:
        return f"the prompt has {prompt} tokens, max_prompt_length is {limits.max_prompt_length}"
    if most is not None and prompt + longest > most:
        both = "prompt and completion have" if group.completions else "prompt and model.sampler.max_new_tokens are"
        return f"{both} {prompt} + {longest} tokens, {name} is {most}"
    return ""


def _prompt_cut(group: Group, limits: Limits, bos: int | None) -> Group:
    most = limits.length[1]
    bounds = [limits.max_prompt_length, None if most is None else most - limits.longest(group)]
    kept = max(1, min(bound for bound in bounds if bound is not None))
    if len(group.prompt_ids) <= kept:
        return group
    first = group.prompt_ids[:1] if int(group.prompt_ids[0]) == bos and kept > 1 else group.prompt_ids[:0]
    tail = group.prompt_ids[len(group.prompt_ids) - (kept - len(first)) :]
    return dataclasses.replace(group, prompt_ids=np.concatenate([first, tail]))


def _completions_cut(group: Group, limits: Limits) -> Group:
    room = None if limits.max_length is None else max(1, limits.max_length - len(group.prompt_ids))
    weights = group.token_weights
    return dataclasses.replace(
        group,
        completions=tuple(ids[:room] for ids in group.completions),
        token_weights=None if weights is None else tuple(weight[:room] for weight in weights),
    )
