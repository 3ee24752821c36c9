"""What heads read of the evidence: implicit rewards of completions, and the parts they cannot do without."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional.segment import sum_by
from lit_rlhf.functional.udrra import implicit_reward, over_completions
from lit_rlhf.types import Batch, Evidence

Reduce = Literal["sum", "mean"]
"""Whether the log-ratios of a completion's tokens are added or averaged (length normalisation)."""


def temperature(evidence: Evidence, tau: float) -> Tensor | float:
    """The learned temperature where there is one, else the head's."""
    return tau if evidence.tau is None else evidence.tau


def positive(tau: float, head: object) -> None:
    """Raises: InputError: a temperature that is not positive."""
    if not tau > 0:
        raise InputError(f"{type(head).__name__}.tau is {tau}; a temperature is positive")


def completion_logps(evidence: Evidence, batch: Batch, reduce: Reduce = "sum") -> Tensor:
    """[S] log pi of the trained tokens, added or averaged, in nats."""
    sequences = batch.sequences
    values = required(evidence, "policy").values
    return over_completions(values, sequences.token_weight.to(values.dtype), sequences.completion_lengths, reduce)


def completion_rewards(evidence: Evidence, batch: Batch, tau: Tensor | float, reduce: Reduce = "sum") -> Tensor:
    """[S] tau * log(pi / u) of the trained tokens, added or averaged; u = 1 without a reference."""
    sequences = batch.sequences
    tokens = implicit_reward(required(evidence, "policy").values, evidence.reference, tau)
    return over_completions(tokens, sequences.token_weight.to(tokens.dtype), sequences.completion_lengths, reduce)


def required(evidence: Evidence, field: str):
    """A field of the evidence.

    Raises:
        InputError: it is not there.
    """
    value = getattr(evidence, field)
    if value is None:
        raise InputError(f"the head reads evidence.{field}, and the composition has no part that gives it")
    return value


def group_sizes(batch: Batch) -> Tensor:
    """[N] completions of each prompt."""
    group = batch.sequences.prompt_of
    return sum_by(torch.ones_like(group), group, len(batch.sequences.prompt_lengths))


def refuse_singles(batch: Batch, head: object) -> None:
    """Raises: InputError: a prompt has a single completion where the head compares those of a group."""
    if int(group_sizes(batch).min()) < 2:
        raise InputError(f"{type(head).__name__} compares the responses of a prompt, and a prompt has one only; it needs two or more each")
