"""KL over the vocabulary between two linear heads on their own hidden states, without ever holding a [T, V] tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.functional import linear_logps
from lit_rlhf.functional.linear_logps import chunks, linear_logits


@dataclass(frozen=True)
class Projection:
    """What logits z = softcap * tanh(scale * (h W^T + b) / softcap) of T tokens are made of."""

    hidden: Tensor
    """[T, D]"""
    weight: Tensor
    """[V, D]"""
    bias: Tensor | None = None
    """[V]"""
    softcap: float | None = None
    scale: float = 1.0

    def logits(self, rows: slice = slice(None)) -> Tensor:
        """[rows, V] in float32 or better."""
        return linear_logits(self.hidden[rows], self.weight, self.bias, self.softcap, self.scale)[0]


@torch.no_grad()
def linear_kl(policy: Projection, other: Projection, chunk_size: int | None = None) -> Tensor:
    """[T] sum_v pi_v (log pi_v - log u_v) in nats, pi = softmax(z) of `policy` and u of `other`; without gradient.

    Args:
        policy: of T tokens.
        other: of the same T tokens; its D may be another.
        chunk_size: rows at a time; chosen so that a chunk has about 4M logits when None.
    """
    chunk = chunk_size or max(1, linear_logps.CHUNK_ELEMENTS // policy.weight.shape[0])
    found = [_kl(policy.logits(rows), other.logits(rows)) for rows in chunks(len(policy.hidden), chunk)]
    return torch.cat([policy.hidden.new_empty(0, dtype=torch.float32), *found])


def _kl(policy: Tensor, other: Tensor) -> Tensor:
    logps, others = policy.log_softmax(-1), other.log_softmax(-1)
    probability = logps.exp()
    return torch.where(probability > 0, probability * (logps - others), 0.0).sum(-1)
