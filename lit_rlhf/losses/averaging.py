"""How the tokens of an optimizer step become one number: what tells GRPO from DAPO from Dr. GRPO."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lit_rlhf.functional import segment
from lit_rlhf.functional.udrra import over_completions
from lit_rlhf.types import Batch, Unit

Average = Literal["token", "sequence", "sum"]
"""The mean over all tokens; the mean over sequences of each one's mean; the mean over sequences of each one's sum."""


def unit_of(average: Average) -> Unit:
    """What the regime divides the total by."""
    return "token" if average == "token" else "sequence"


def total_of(values: Tensor, batch: Batch, average: Average) -> Tensor:
    """[] the weighted sum of `values` [T], of their means over sequences, or of their sums over sequences."""
    weight = batch.token_weight.to(values.dtype)
    if average == "token":
        return (weight * segment.counted(values, weight)).sum()
    sequences, reduce = batch.sequences, "mean" if average == "sequence" else "sum"
    own = sequences.token_weight.to(values.dtype)
    per_sequence = over_completions(values, own, sequences.completion_lengths, reduce)
    return (batch.sequence_weight * segment.counted(per_sequence, batch.sequence_weight)).sum()
