"""One token of every row, by inverting the cumulative distribution at the row's own uniform number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lit_rlhf.sampling.processing import Processing
from lit_rlhf.types import Kept

_BLOCK = 256


@dataclass(frozen=True)
class Drawn:
    """B tokens and what is known of them."""

    tokens: Tensor
    """[B]"""
    behaviour: Tensor
    """[B] log-probs under the law that drew them, in nats."""
    policy: Tensor
    """[B] log-probs at temperature 1, unfiltered, in nats."""
    kept: Kept | None = None
    """What the filters left; None where there are none."""

    def select(self, rows: Tensor) -> Drawn:
        """The rows of these indices, in this order."""
        kept = None if self.kept is None else self.kept.select(rows)
        return Drawn(self.tokens[rows], self.behaviour[rows], self.policy[rows], kept)


def joined(parts: Sequence[Drawn]) -> Drawn:
    """Rows of one after those of another."""
    if len(parts) == 1:
        return parts[0]
    numbers = (torch.cat([getattr(one, name) for one in parts]) for name in ("tokens", "behaviour", "policy"))
    if parts[0].kept is None:
        return Drawn(*numbers)
    return Drawn(*numbers, Kept(*(torch.cat([getattr(one.kept, name) for one in parts]) for name in ("ids", "lengths"))))


def uniforms(seed: int, draw: int, index: int, place: int, count: int) -> np.ndarray:
    """[count] numbers in [0, 1) that belong to one completion: the `place`-th of prompt `index` in draw `draw`."""
    return np.random.default_rng([seed, draw, index, place]).random(count)


def pick(logits: Tensor, processing: Processing, uniform: Tensor) -> Drawn:
    """A token of every row.

    Args:
        logits: [B, V] at temperature 1.
        processing: how the law is made of them.
        uniform: [B] in [0, 1), float64.
    """
    if processing.greedy:
        policy, tokens = (logits - logits.logsumexp(-1, keepdim=True)).max(-1)
        return Drawn(tokens, policy, policy)
    scaled = logits if processing.temperature == 1 else logits / processing.temperature
    kept = None
    if processing.filters:
        left = scaled >= processing.floor(scaled)[:, None]
        kept, scaled = kept_sets(left), scaled.masked_fill(~left, -torch.inf)
    tokens, behaviour = _inverted(scaled, uniform)
    if processing.plain:
        return Drawn(tokens, behaviour, behaviour)
    policy = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
    return Drawn(tokens, behaviour, policy, kept)


def kept_sets(left: Tensor) -> Kept:
    """The ids that are True in each row [B, V], none of a row that is True everywhere."""
    lengths = left.sum(-1)
    whole = lengths == left.shape[1]
    ids = (left & ~whole[:, None]).nonzero()[:, 1]
    return Kept(ids.to(torch.int32), lengths.masked_fill(whole, 0))


def _inverted(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The token at which the cumulative probability passes `uniform` [B], and its log-prob: [B] each.

    Sums are first over blocks of tokens, then within the one block that matters: a cumulative sum of all V costs more.
    """
    vocabulary = logits.shape[1]
    largest = logits.amax(-1, keepdim=True)
    weights = (logits - largest).exp_()
    even = vocabulary // _BLOCK * _BLOCK
    blocks = weights[:, :even].unflatten(1, (-1, _BLOCK)).sum(-1)
    rest = weights[:, even:].sum(-1, keepdim=True)
    ends = torch.cat([blocks, rest], 1).double().cumsum(1)
    block, before = _passed(ends, uniform * ends[:, -1])
    ids = block[:, None] * _BLOCK + torch.arange(_BLOCK, device=logits.device)
    inside = weights.gather(1, ids.clamp_max(vocabulary - 1)).double().masked_fill_(ids >= vocabulary, 0.0).cumsum(1)
    place, _ = _passed(inside, uniform * ends[:, -1] - before)
    tokens = block * _BLOCK + place
    logps = logits.gather(1, tokens[:, None])[:, 0].double() - largest[:, 0] - ends[:, -1].log()
    return tokens, logps.to(logits.dtype)


def _passed(ends: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """[B] the place of the first entry of rising rows [B, n] that is above `value` [B], and the entry before it.

    Where rounding leaves none above, it is the last place at which the row rises.
    """
    last = ends[:, -1]
    value = torch.minimum(value, torch.nextafter(last, torch.zeros_like(last))).clamp_min(0.0)
    found = torch.searchsorted(ends, value[:, None], right=True)
    before = torch.where(found > 0, ends.gather(1, (found - 1).clamp_min(0)), 0.0)
    return found[:, 0], before[:, 0]
