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
    temperature: float = 1.0,
    kept_ids: Tensor | None = None,
    kept_lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """log softmax(z / temperature)[target], z = softcap * tanh(scale * (h W^T + b) / softcap), in float32 or better.

    Rows with kept tokens have a softmax over these alone, and -inf (without gradient) for a target that is not among
    them. Logits are formed `chunk_size` rows at a time, in the forward and once more in the backward pass.

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
        temperature: what logits are divided by.
        kept_ids: [sum m] token ids, the kept tokens of one row after those of another.
        kept_lengths: [T] m of each row; 0 keeps all V tokens. None where no row has kept tokens.

    Returns:
        [T] log-probabilities, [T] entropies or None, and [T] log sum_v p_v^2 or None; all in nats.
    """
    chunk = chunk_size or max(1, CHUNK_ELEMENTS // weight.shape[0])
    kept = None if kept_lengths is None else (kept_ids, kept_lengths, kept_lengths.cumsum(0).tolist())
    settings = softcap, scale, temperature, kept, chunk, entropy, collision
    values, *others = _LinearLogps.apply(hidden, weight, bias, targets, settings)
    entropies, collisions = (one if asked else None for one, asked in zip(others, (entropy, collision), strict=True))
    return values, entropies, collisions


class _LinearLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, settings):
        softcap, scale, temperature, kept, chunk, entropy, collision = settings
        values = torch.empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)
        entropies, collisions = (torch.empty_like(values[: None if asked else 0]) for asked in (entropy, collision))
        for rows in chunks(len(hidden), chunk):
            logits, _ = linear_logits(hidden[rows], weight, bias, softcap, scale, temperature)
            logits = logits if kept is None else logits.masked_fill_(_barred(logits, kept, rows), -torch.inf)
            normaliser = logits.logsumexp(-1)
            values[rows] = logits.gather(1, targets[rows, None])[:, 0] - normaliser
            if entropy:
                entropies[rows] = torch.special.entr((logits - normaliser[:, None]).exp()).sum(-1)
            if collision:
                collisions[rows] = (2 * (logits - normaliser[:, None])).logsumexp(-1)
        ctx.mark_non_differentiable(collisions)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.settings = settings
        return values, entropies, collisions

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_entropy, _):
        hidden, weight, bias, targets = ctx.saved_tensors
        softcap, scale, temperature, kept, chunk, entropy, _ = ctx.settings
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden) if wants_hidden else None
        d_weight = torch.zeros_like(weight, dtype=grad.dtype) if wants_weight else None
        d_bias = torch.zeros_like(bias, dtype=grad.dtype) if wants_bias else None
        for rows in chunks(len(hidden), chunk):
            logits, slope = linear_logits(hidden[rows], weight, bias, softcap, scale, temperature)
            barred = None if kept is None else _barred(logits, kept, rows)
            logits = logits if barred is None else logits.masked_fill_(barred, -torch.inf)
            d_logits = _slopes(logits, targets[rows], grad[rows], grad_entropy[rows] if entropy else None)
            d_logits = d_logits if barred is None else d_logits.masked_fill_(barred, 0.0)
            d_logits = d_logits * slope
            if wants_hidden:
                d_hidden[rows] = (d_logits.to(weight.dtype) @ weight).to(hidden.dtype)
            if wants_weight:
                d_weight += (d_logits.to(hidden.dtype).T @ hidden[rows]).to(grad.dtype)
            if wants_bias:
                d_bias += d_logits.sum(0)
        d_weight, d_bias = (
            None if slopes is None else slopes.to(given.dtype) for slopes, given in ((d_weight, weight), (d_bias, bias))
        )
        return d_hidden, d_weight, d_bias, None, None


def _slopes(logits: Tensor, targets: Tensor, grad: Tensor, grad_entropy: Tensor | None) -> Tensor:
    """[rows, V] what reaches the logits from the log-probs of the targets, and from the entropies."""
    logps = logits.log_softmax(-1)
    probability = logps.exp()
    found = -probability * grad[:, None]
    found.scatter_add_(1, targets[:, None], grad[:, None])
    if grad_entropy is not None:
        mean = -torch.special.entr(probability).sum(-1, keepdim=True)
        found -= grad_entropy[:, None] * probability * (torch.where(probability > 0, logps, 0.0) - mean)
    return found


def _barred(logits: Tensor, kept: tuple[Tensor, Tensor, list[int]], rows: slice) -> Tensor:
    """[rows, V] bool: tokens that are not among the kept ones of a row."""
    ids, lengths, ends = kept
    own = ids[ends[rows.start] - int(lengths[rows.start]) : ends[rows.stop - 1]]
    found = (lengths[rows] > 0)[:, None].expand_as(logits).contiguous()
    found[torch.repeat_interleave(lengths[rows]), own.long()] = False
    return found


def chunks(rows: int, size: int) -> list[slice]:
    """0..rows-1 in pieces of at most `size`."""
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def linear_logits(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor | float]:
    """[rows, V] z / temperature, z = softcap * tanh(scale * (h W^T + b) / softcap), in float32 or better.

    Returns:
        Logits, and their slope with respect to h W^T + b.
    """
    logits = (hidden @ weight.T).to(torch.promote_types(hidden.dtype, torch.float32))
    logits = logits if bias is None else logits + bias
    logits, slope = logits * scale if scale != 1.0 else logits, scale
    if softcap is not None:
        bent = torch.tanh(logits / softcap)
        logits, slope = softcap * bent, scale * (1 - bent**2)
    return (logits, slope) if temperature == 1.0 else (logits / temperature, slope / temperature)
