"""Log-probabilities of given tokens from hidden states and the output matrix, without ever holding a [T, V] tensor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 2**22
"""Logits held at a time; measured on a CPU: smaller chunks cost time, larger ones page faults."""


def linear_logps(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    chunk_size: int | None = None,
    entropy: bool = False,
    collision: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """log softmax(z)[target] with z = softcap * tanh(scale * (h W^T + b) / softcap), in float32 or better.

    Logits are formed `chunk_size` rows at a time, in the forward and once more in the backward pass.

    Args:
        hidden: [T, D] the state each token is predicted from.
        weight: [V, D]
        targets: [T] token ids.
        bias: [V]
        softcap: bound of the logits; None is no bound.
        scale: factor of the logits.
        chunk_size: rows at a time; chosen so that a chunk has about 4M logits when None.
        entropy: whether to compute the entropy of each distribution too.
        collision: whether to compute log sum_v p_v^2 of each distribution p too; no gradient goes through it.

    Returns:
        [T] log-probabilities, [T] entropies or None, and [T] log sum_v p_v^2 or None; all in nats.
    """
    chunk = chunk_size or max(1, CHUNK_ELEMENTS // weight.shape[0])
    values, *others = _LinearLogps.apply(hidden, weight, bias, targets, softcap, scale, chunk, entropy, collision)
    entropies, collisions = (one if asked else None for one, asked in zip(others, (entropy, collision), strict=True))
    return values, entropies, collisions


class _LinearLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, softcap, scale, chunk, entropy, collision):
        values = torch.empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)
        entropies, collisions = (torch.empty_like(values[: None if asked else 0]) for asked in (entropy, collision))
        for rows in _chunks(len(hidden), chunk):
            logits, _ = _logits(hidden[rows], weight, bias, softcap, scale, values.dtype)
            normaliser = logits.logsumexp(-1)
            values[rows] = logits.gather(1, targets[rows, None])[:, 0] - normaliser
            if entropy:
                entropies[rows] = torch.special.entr((logits - normaliser[:, None]).exp()).sum(-1)
            if collision:
                collisions[rows] = (2 * (logits - normaliser[:, None])).logsumexp(-1)
        ctx.mark_non_differentiable(collisions)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.settings = softcap, scale, chunk, entropy
        return values, entropies, collisions

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_entropy, _):
        hidden, weight, bias, targets = ctx.saved_tensors
        softcap, scale, chunk, entropy = ctx.settings
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden) if wants_hidden else None
        d_weight = torch.zeros_like(weight, dtype=grad.dtype) if wants_weight else None
        d_bias = torch.zeros_like(bias, dtype=grad.dtype) if wants_bias else None
        for rows in _chunks(len(hidden), chunk):
            logits, slope = _logits(hidden[rows], weight, bias, softcap, scale, grad.dtype)
            logps = logits.log_softmax(-1)
            probability = logps.exp()
            d_logits = -probability * grad[rows, None]
            d_logits.scatter_add_(1, targets[rows, None], grad[rows, None])
            if entropy:
                mean = -torch.special.entr(probability).sum(-1, keepdim=True)
                d_logits -= grad_entropy[rows, None] * probability * (torch.where(probability > 0, logps, 0.0) - mean)
            d_logits = d_logits * slope
            if wants_hidden:
                d_hidden[rows] = (d_logits.to(weight.dtype) @ weight).to(hidden.dtype)
            if wants_weight:
                d_weight += (d_logits.to(hidden.dtype).T @ hidden[rows]).to(grad.dtype)
            if wants_bias:
                d_bias += d_logits.sum(0)
        return (
            d_hidden, None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(bias.dtype), None, None, None, None, None, None,
        )


def _chunks(rows: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]


def _logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, scale: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor | float]:
    """Logits of a chunk, and their slope with respect to h W^T + b."""
    logits = (hidden @ weight.T).to(dtype)
    logits = logits if bias is None else logits + bias
    logits = logits * scale if scale != 1.0 else logits
    if softcap is None:
        return logits, scale
    bent = torch.tanh(logits / softcap)
    return softcap * bent, scale * (1 - bent**2)
