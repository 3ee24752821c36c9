"""How many tokens a completion may have, and what cannot be sampled at all."""

from __future__ import annotations

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.errors import InputError
from lit_rlhf.types import Prompts


def refuse_settings(max_new_tokens: int, seed: int, batch_tokens: int) -> None:
    """Raises: InputError: what no sampler can serve, by its key."""
    if max_new_tokens < 1:
        raise InputError(f"model.sampler.max_new_tokens is {max_new_tokens}; a completion has at least one token")
    if seed < 0:
        raise InputError(f"model.sampler.seed is {seed}; it is at least 0")
    if batch_tokens < 1:
        raise InputError(f"model.sampler.batch_tokens is {batch_tokens}; it is at least 1 (a single row is always run)")


def positions(model: LanguageModel) -> int | None:
    """Tokens of a row at most, by the model's configuration; None where it names no limit."""
    return getattr(model.base.config.get_text_config(), "max_position_embeddings", None)


def room(model: LanguageModel, prompts: Prompts, max_new_tokens: int) -> list[int]:
    """New tokens of each prompt's completions at most: those asked for, or those that the model has positions for.

    Raises:
        InputError: a prompt has no token, or leaves no room for one, by its row.
    """
    most, found = positions(model), []
    for length, record in zip(prompts.prompt_lengths.tolist(), prompts.records, strict=True):
        where = f"{record.row}: " if record.row else ""
        if length < 1:
            raise InputError(f"{where}the prompt is empty; the first token of a completion is predicted from one at least")
        if most is not None and length >= most:
            raise InputError(
                f"{where}the prompt has {length} tokens and the model knows {most} positions, so that none is left for "
                "a completion; set data.max_prompt_length below that, or data.overflow to what long prompts are to become"
            )
        found.append(max_new_tokens if most is None else min(max_new_tokens, most - length))
    return found
