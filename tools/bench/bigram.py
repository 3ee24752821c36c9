"""A language model small enough to be exact: the logits of the next token are a row of a float64 matrix.

Both sides of the comparison of losses read log-probs from the same matrix, so a difference between them is a difference
between losses, down to rounding in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

VOCABULARY = 40
PAD, END = VOCABULARY - 2, VOCABULARY - 1

Row = tuple[list[int], list[int], list[int]]
"""Token ids of prompt, chosen and rejected; both completions end with END."""


@dataclass(frozen=True)
class Scores:
    """What TRL reads of a model: per-token quantities [B, L-1], 0 outside completions, and dense logits [B, L, V]."""

    logits: Tensor
    log_probs: Tensor | None = None
    entropy: Tensor | None = None
    log_sum_sq_probs: Tensor | None = None
    mean_logits: Tensor | None = None
    is_top1: Tensor | None = None


class Bigram(nn.Module):
    """logits(next token | token v) = weight[v], [V, V]."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randn(VOCABULARY, VOCABULARY, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(draws.to(dtype))

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, **ignored: object) -> Scores:
        """The interface of a Hugging Face model with the head that TRL puts on it; padding is never looked at."""
        logits = self.weight[input_ids]
        if labels is None:
            return Scores(logits)
        logps, targets = logits[:, :-1].log_softmax(-1), labels[:, 1:]
        trained = targets != -100
        chosen = logps.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        per_token = {
            "log_probs": chosen,
            "entropy": -(logps.exp() * logps).sum(-1),
            "log_sum_sq_probs": (2 * logps).logsumexp(-1),
            "mean_logits": logits[:, :-1].mean(-1),
        }
        masked = {name: torch.where(trained, value, 0.0) for name, value in per_token.items()}
        return Scores(logits, is_top1=(logps.argmax(-1) == targets) & trained, **masked)


def make_rows(lengths: list[tuple[int, int, int]], seed: int = 0) -> list[Row]:
    """Random token ids of these lengths; a completion's terminator is one of its tokens."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> list[int]:
        return torch.randint(0, PAD, (count,), generator=generator).tolist()

    return [(draw(prompt), [*draw(one - 1), END], [*draw(other - 1), END]) for prompt, one, other in lengths]
