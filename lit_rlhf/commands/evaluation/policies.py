"""Policies by name: refused before any weight is read, loaded one at a time, and compared by the tokens they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.errors import InputError


def policy(source: str, dtype: str, key: str = "POLICY") -> LanguageModel:
    """A policy, its tokenizer and no weight read.

    Args:
        source: a run, a folder or a hub name.
        dtype: of the weights.
        key: the argument that named it.

    Raises:
        InputError: it cannot be read, or has no tokenizer.
    """
    try:
        model = LanguageModel(source, dtype=dtype)
        model.tokenizer  # noqa: B018
    except InputError as error:
        raise InputError(f"{key} {source}: {str(error).removeprefix(f'{source}: ')}") from error
    return model


def loaded(model: LanguageModel, device: torch.device) -> LanguageModel:
    """The policy with its weights, on a device."""
    model.build(frozen=True)
    return model.to(device)


def same_prompts(one: LanguageModel, other: LanguageModel) -> bool:
    """Whether two policies read the same prompt as the same tokens."""
    return _reads(one.tokenizer) == _reads(other.tokenizer)


def apart(model: LanguageModel, baseline: LanguageModel) -> str | None:
    """Why there is no KL between two policies; None where there is one. The second condition needs the weights.

    KL compares distributions over the same tokens.
    """
    if model.tokenizer.get_vocab() != baseline.tokenizer.get_vocab():
        return f"{model.source} and {baseline.source} have different tokens: they are compared as text, without KL"
    own, its = (len(one.output_head.weight) for one in (model, baseline))
    if own != its:
        return f"{model.source} has {own} tokens in its output head and {baseline.source} {its}: they have no KL"
    return None


def _reads(tokenizer: Any) -> tuple[Any, ...]:
    return tokenizer.get_vocab(), tokenizer.chat_template


def chosen_device(name: str | None) -> torch.device:
    """The device of this name; a GPU where there is one when None.

    Raises:
        InputError: there is no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device={name}: {str(error).splitlines()[0]}") from error
    return device


def ordered(policies: Sequence[str], baseline: str) -> list[str]:
    """The baseline, then the others as they were named."""
    return [baseline, *(name for name in policies if name != baseline)]
