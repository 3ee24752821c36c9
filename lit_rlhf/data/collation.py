"""Prompt groups to containers: which batch a composition needs, and `collate`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lit_rlhf.data.records import Group
from lit_rlhf.errors import InputError
from lit_rlhf.types import Batch, PreferenceBatch, Prompts, ScoredBatch, Sequences

Signal = Literal["gap", "preference", "reward", "label", "demonstration", "prompt"]
"""What is known of the reward: differences, preferences, values, good or not, nothing but good examples, or prompts alone."""
SIGNALS: tuple[Signal, ...] = get_args(Signal)


def signal_of(needs: Iterable[str]) -> Signal:
    """The signal that a composition reads, from the fields it names.

    `prompt`: prompts, which it completes itself; else `reward_gap`: pairs with their reward gap; else `chosen`: pairs;
    else `reward`; else `label`; else demonstrations.
    """
    read = frozenset(needs)
    if "prompt" in read:
        return "prompt"
    if "reward_gap" in read:
        return "gap"
    if "chosen" in read:
        return "preference"
    return "reward" if "reward" in read else "label" if "label" in read else "demonstration"


def tokens_of(group: Group) -> int:
    """Unique tokens of a group: the prompt once and all its completions."""
    return len(group.prompt_ids) + sum(len(completion) for completion in group.completions)


def refuse_oversized(groups: Sequence[Group], tokens: np.ndarray, micro_batch_tokens: int) -> None:
    """Groups are never cut.

    Raises:
        InputError: a group has more tokens than a micro-batch may.
    """
    if len(tokens) and int(tokens.max()) > micro_batch_tokens:
        row, largest = groups[int(tokens.argmax())].row, int(tokens.max())
        raise InputError(
            f"{row}: the prompt and its completions have {largest} tokens together, more than data.micro_batch_tokens="
            f"{micro_batch_tokens}. Set data.micro_batch_tokens to {largest} or more (it changes no result), or shorten the row"
        )


def refuse_crowded(groups: Sequence[Group], tokens: np.ndarray, room: int, context: int | None) -> None:
    """A prompt leaves room for its completions.

    Raises:
        InputError: prompt and completion do not fit into the model's context.
    """
    if context is not None and len(tokens) and int(tokens.max()) + room > context:
        row, largest = groups[int(tokens.argmax())].row, int(tokens.max())
        raise InputError(
            f"{row}: the prompt has {largest} tokens and its completion up to model.sampler.max_new_tokens={room}, and the "
            f"model's context is {context} tokens. Lower model.sampler.max_new_tokens, or shorten the row"
        )


def collate(
    groups: Sequence[Group], signal: Signal, counted: bool = True, index: Sequence[int] | None = None
) -> Batch | Prompts:
    """One batch of these groups, in this order.

    Args:
        groups: at least one.
        signal: what the batch carries; the groups must have it.
        counted: False sets every weight (of tokens, sequences, pairs and prompts) to 0.
        index: of prompts, their places in the step; 0, 1, ... where it is None.
    """
    if signal == "prompt":
        return _prompts(groups, counted, range(len(groups)) if index is None else index)
    sequences = _sequences(groups, counted)
    if signal in ("gap", "preference"):
        return _preferences(groups, sequences, signal, counted)
    reward = torch.tensor([value for group in groups for value in _reward(group, signal)], dtype=torch.float32)
    weight = [group.weight for group in groups for _ in group.completions]
    return ScoredBatch(sequences, reward, _weight(weight, counted))


def _prompts(groups: Sequence[Group], counted: bool, index: Sequence[int]) -> Prompts:
    return Prompts(
        prompt_ids=_joined([group.prompt_ids for group in groups]),
        prompt_lengths=torch.tensor([len(group.prompt_ids) for group in groups]),
        records=tuple(group.record for group in groups),
        index=torch.tensor(list(index), dtype=torch.long),
        weight=torch.tensor([group.weight for group in groups], dtype=torch.float32) * float(counted),
    )


def _sequences(groups: Sequence[Group], counted: bool) -> Sequences:
    completions = [completion for group in groups for completion in group.completions]
    return Sequences(
        prompt_ids=_joined([group.prompt_ids for group in groups]),
        prompt_lengths=torch.tensor([len(group.prompt_ids) for group in groups]),
        completion_ids=_joined(completions),
        completion_lengths=torch.tensor([len(completion) for completion in completions]),
        prompt_of=torch.repeat_interleave(torch.tensor([len(group.completions) for group in groups])),
        weight=_token_weight(groups, counted),
    )


def _token_weight(groups: Sequence[Group], counted: bool) -> Tensor | None:
    if counted and all(group.token_weights is None for group in groups):
        return None
    own = [
        np.ones(len(completion)) if group.token_weights is None else group.token_weights[index]
        for group in groups
        for index, completion in enumerate(group.completions)
    ]
    return torch.from_numpy(np.concatenate(own).astype(np.float32)) * float(counted)


def _preferences(groups: Sequence[Group], sequences: Sequences, signal: Signal, counted: bool) -> PreferenceBatch:
    sizes = [len(group.completions) for group in groups]
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    pairs = [(start, group, pair) for start, group in zip(starts, groups, strict=True) for pair in group.pairs]
    gaps = [pair.gap for _, _, pair in pairs]
    known = signal == "gap" or all(gap is not None for gap in gaps)
    return PreferenceBatch(
        sequences,
        chosen=torch.tensor([start + pair.chosen for start, _, pair in pairs], dtype=torch.long),
        rejected=torch.tensor([start + pair.rejected for start, _, pair in pairs], dtype=torch.long),
        probability=torch.tensor([pair.probability for _, _, pair in pairs], dtype=torch.float32),
        reward_gap=torch.tensor(gaps, dtype=torch.float32) if known else None,
        weight=_weight([group.weight * pair.weight for _, group, pair in pairs], counted),
    )


def _reward(group: Group, signal: Signal) -> Sequence[float]:
    if signal == "demonstration":
        return [1.0] * len(group.completions)
    return group.rewards if signal == "reward" else group.labels


def _weight(weight: Sequence[float], counted: bool) -> Tensor | None:
    """None where every weight is 1."""
    if counted and all(value == 1.0 for value in weight):
        return None
    return torch.tensor(weight, dtype=torch.float32) * float(counted)


def _joined(ids: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(ids).astype(np.int64))
