"""Completions of a few prompts with settings that are all stated here: nothing is taken from a model's own file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import GenerationConfig


@torch.no_grad()
def complete(
    net: nn.Module,
    prompts: Sequence[np.ndarray],
    stop: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[Tensor]:
    """One completion [C] per prompt, its stop token included.

    Args:
        net: a causal language model of transformers or peft.
        prompts: token ids.
        stop: ids that end a completion.
        max_new_tokens: a completion is cut there, or where the model knows no further position.
        temperature: 0 takes the likeliest token.
        seed: of the draws; the global random state does not move.
    """
    from transformers import GenerationConfig

    device = next(net.parameters()).device
    longest, pad = max(map(len, prompts)), stop[0] if stop else 0
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # on the left: the next token follows at the same place in every row
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    room = (getattr(net.config, "max_position_embeddings", None) or longest + max_new_tokens) - longest
    settings = GenerationConfig(
        do_sample=temperature > 0, max_new_tokens=max(1, min(max_new_tokens, room)), eos_token_id=list(stop) or None, pad_token_id=pad,
        **({"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {}),
    )
    with _own_random(device, seed), evaluating(net), _settings(net, settings):
        rows = net.generate(input_ids=ids.to(device), attention_mask=mask.to(device))[:, longest:].cpu()
    return [_until_stop(row, stop) for row in rows]


def _until_stop(row: Tensor, stop: Sequence[int]) -> Tensor:
    ends = torch.isin(row, torch.tensor(list(stop), dtype=row.dtype)).nonzero()
    return row[: int(ends[0]) + 1] if len(ends) else row


@contextlib.contextmanager
def _own_random(device: torch.device, seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout; every part's mode is given back."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextlib.contextmanager
def _settings(net: Any, settings: GenerationConfig) -> Iterator[None]:
    """Generation fills what is left open from the model's own settings, so these take their place."""
    base = net.get_base_model() if hasattr(net, "get_base_model") else net
    before, cache = base.generation_config, base.config.use_cache
    base.generation_config, base.config.use_cache = settings, True
    try:
        yield
    finally:
        base.generation_config, base.config.use_cache = before, cache
