"""Soft values of states over a whole vocabulary, some rows at a time: no [T, V] tensor is ever alive."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lit_rlhf.functional import linear_logps

_NEVER = -1e4  # a log-prob whose exponential is 0 in every precision


def soft_value(logps: Tensor, q: Tensor, tau: Tensor | float, base: Tensor | None = None) -> Tensor:
    """[n] V(s) = E_{a~pi}[Q(s, a) - tau log(pi / u)(a | s)], exactly; what is never chosen adds nothing.

    See "Soft Actor-Critic for Discrete Action Settings" by Christodoulou
    (https://arxiv.org/abs/1910.07207), equation 10.

    Args:
        logps: [n, V] log pi in nats.
        q: [n, V]
        tau: temperature.
        base: [n, V] log u in nats; None is u = 1.
    """
    ratio = logps.clamp_min(_NEVER) if base is None else logps.clamp_min(_NEVER) - base.clamp_min(_NEVER)
    return (logps.exp() * (q - tau * ratio)).sum(-1)


def following(values: Tensor, owner: Tensor) -> Tensor:
    """[n] the value of the next entry of the same owner; 0 at an owner's last.

    Args:
        values: [n]
        owner: [n] equal entries lie together.
    """
    return torch.where(is_last(owner), 0.0, values.roll(-1))


def is_last(owner: Tensor) -> Tensor:
    """[n] bool: the last entry of its owner, where equal entries of `owner` [n] lie together."""
    return torch.cat([owner[1:] != owner[:-1], torch.ones_like(owner[:1], dtype=torch.bool)])


def by_chunks(function: Callable[[slice], Tensor], rows: int, vocabulary: int, chunk_size: int | None = None) -> Tensor:
    """[rows] `function` of one stretch of rows after the other; each is computed once more in the backward pass.

    Args:
        function: rows -> [chunk], by way of tensors [chunk, V].
        rows: how many.
        vocabulary: V
        chunk_size: rows at a time; chosen as for `linear_logps` when None.
    """
    chunk = chunk_size or max(1, linear_logps.CHUNK_ELEMENTS // vocabulary)
    return torch.cat([
        checkpoint(function, stretch, use_reentrant=False, preserve_rng_state=False)
        for stretch in linear_logps.chunks(rows, chunk)
    ])
