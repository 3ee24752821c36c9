"""The prompts that every policy answers, in the tokens of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.errors import InputError
from lit_rlhf.sampling.base import Sampler
from lit_rlhf.types import Prompts

STAGE = {"val": "validate", "test": "test"}


def questions(data: Any, policy: LanguageModel, sampler: Sampler, split: str, limit: int | None) -> list[Prompts]:
    """Prompts in batches of `data.batch_size`, tokenised for a policy; their `index` is their place among all.

    Args:
        data: the data module.
        policy: who answers.
        sampler: how; its `max_new_tokens` must fit behind every prompt.
        split: val or test.
        limit: the first so many; None is all.

    Raises:
        InputError: there are none, the rows are wrong, or a prompt leaves no room for a completion.
    """
    context = policy.origin.context
    data.attach(SimpleNamespace(
        needs=frozenset({"prompt"}), tokenizer=policy.tokenizer, max_new_tokens=sampler.max_new_tokens, context=context,
    ))
    if data.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise InputError(
            f"data.tokenizer: it has other tokens than {policy.source}, which would read other prompts; leave it out: "
            "every policy then reads the prompts by its own tokenizer"
        )
    data.setup(STAGE[split])
    if not len(data.groups(split)):
        kind = "validation" if split == "val" else "test"
        raise InputError(
            f"--split={split}: the configuration has no {kind} prompts; name a file of them with --prompts, hold some "
            "out with --data.split, or take the other split"
        )
    loader = data.val_dataloader() if split == "val" else data.test_dataloader()
    found, start = [], 0
    for (prompts,) in loader:
        kept = prompts.select(torch.arange(min(len(prompts.records), (limit or len(data.groups(split))) - start)))
        if not len(kept.records):
            break
        index = torch.arange(start, start + len(kept.records))
        found.append(dataclasses.replace(kept, index=index))
        start += len(kept.records)
    return found


def common(every: Sequence[list[Prompts]]) -> tuple[list[list[Prompts]], str | None]:
    """The prompts that all tokenizers keep, and a line if one drops some as too long.

    Raises:
        InputError: there are none.
    """
    kept = [[record.row for part in parts for record in part.records] for parts in every]
    rows = set(kept[0]).intersection(*kept[1:])
    if not rows:
        raise InputError("data: no prompt is short enough for every policy; raise data.max_length, or shorten the rows")
    left_out = len(set().union(*kept)) - len(rows)
    if not left_out:
        return list(every), None
    shared = [[_select(part, rows) for part in parts] for parts in every]
    shared = [[part for part in parts if len(part.records)] for parts in shared]
    return shared, f"{left_out} prompts are left out: they are too long for one of the policies"


def _select(prompts: Prompts, rows: set[str]) -> Prompts:
    kept = [place for place, record in enumerate(prompts.records) if record.row in rows]
    return prompts.select(torch.tensor(kept, dtype=torch.long))
