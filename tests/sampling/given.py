"""Prompts for samplers, and what a law is, computed plainly."""

from __future__ import annotations

from typing import Any

import torch
from components.tiny import VOCABULARY, config, dense, spread
from torch import Tensor, nn

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.types import PromptRecord, Prompts, Samples

LENGTHS = (5, 1, 3, 9, 3)
OPTIONS = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.1},
    "everything": {"temperature": 1.3, "top_k": 9, "top_p": 0.9, "min_p": 0.02},
    "greedy": {"temperature": 0.0},
}


def made(name: str, seed: int = 0, tokenizer: str | None = None, **settings: Any) -> LanguageModel:
    """A built model of this configuration, far from uniform."""
    torch.manual_seed(seed)
    found = LanguageModel(config=config(name, **settings), tokenizer=tokenizer)
    found.build()
    spread(found.net)
    return found


def prompts(*lengths: int, vocabulary: int = VOCABULARY) -> Prompts:
    """Prompts of these lengths, those of `LENGTHS` without any."""
    lengths, draw = lengths or LENGTHS, torch.Generator().manual_seed(1)
    ids = torch.randint(2, vocabulary, (sum(lengths),), generator=draw)
    records = tuple(PromptRecord("text", row=f"file.jsonl:{row + 1}") for row in range(len(lengths)))
    index = torch.arange(len(lengths)) + 40
    return Prompts(ids, torch.tensor(lengths), records, index, torch.ones(len(lengths)))


def completions(samples: Samples) -> list[list[int]]:
    """The tokens of each."""
    ids = samples.sequences.completion_ids.split(samples.sequences.completion_lengths.tolist())
    return [one.tolist() for one in ids]


def kept_sets(samples: Samples, vocabulary: int = VOCABULARY) -> list[set[int]]:
    """The tokens that each could have been; a set that is not stored has all."""
    sizes = samples.law.kept.lengths.tolist()
    return [set(ids.tolist()) or set(range(vocabulary)) for ids in samples.law.kept.ids.split(sizes)]


@torch.no_grad()
def acting(net: nn.Module, samples: Samples) -> Tensor:
    """[T] log-probs under the law, from the model's own logits, one sequence at a time and one token at a time."""
    logps = dense(net, samples.sequences)
    if samples.law is not None:
        logps = logps / samples.law.temperature
        if samples.law.kept is not None:
            for row, kept in zip(logps, kept_sets(samples, logps.shape[1]), strict=True):
                row[[token for token in range(len(row)) if token not in kept]] = -torch.inf
    return logps.log_softmax(-1).gather(1, samples.sequences.completion_ids[:, None])[:, 0]
