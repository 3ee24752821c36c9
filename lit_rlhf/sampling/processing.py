"""The law that a token is drawn from: temperature, then top-k, top-p and min-p, and what they leave to choose from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.errors import InputError

_CANDIDATES = 256
"""Tokens in which a nucleus is looked for first; where they do not hold it, eight times as many."""


@dataclass(frozen=True)
class Processing:
    """softmax(z / temperature) over the tokens whose logit is at least the largest of three floors.

    With p = softmax(z / temperature), in this order, each of what the one before has left:
    - `top_k`: the k-th largest logit;
    - `top_p`: the smallest logit of the fewest likeliest tokens that carry at least top_p of the probability;
    - `min_p`: the logit where p is min_p times the largest p.

    Tokens with the very logit of a floor all stay, so that a set is a function of the logits alone. Temperature 0 is
    the likeliest token.

    Raises:
        InputError: a setting outside its range, by its key.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"model.sampler.temperature is {self.temperature}; it is at least 0 (0: the likeliest token)")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"model.sampler.top_k is {self.top_k}; it is at least 1, or left out to keep all tokens")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"model.sampler.top_p is {self.top_p}; it is above 0 and at most 1 (1 keeps all tokens)")
        if self.min_p is not None and not 0 <= self.min_p < 1:
            raise InputError(f"model.sampler.min_p is {self.min_p}; it is at least 0 (0 keeps all tokens) and below 1")

    @property
    def greedy(self) -> bool:
        """Whether there is nothing to draw."""
        return self.temperature == 0

    @property
    def filters(self) -> bool:
        """Whether tokens may be left out of the draw."""
        return not self.greedy and (self.top_k is not None or (self.top_p or 1.0) < 1 or (self.min_p or 0.0) > 0)

    @property
    def plain(self) -> bool:
        """Whether the policy's own distribution is sampled."""
        return self.temperature == 1 and not self.filters

    def floor(self, scaled: Tensor) -> Tensor:
        """[B] the least logit that is kept in each row of logits / temperature [B, V]."""
        floor = scaled.new_full(scaled.shape[:1], -torch.inf)
        if self.top_k is not None:
            floor = scaled.topk(min(self.top_k, scaled.shape[1])).values[:, -1]
        if self.top_p is not None and self.top_p < 1:
            floor = torch.maximum(floor, _nucleus_floor(scaled, floor, self.top_p))
        if self.min_p is not None and self.min_p > 0:
            floor = torch.maximum(floor, scaled.amax(-1) + math.log(self.min_p))
        return floor

    def __str__(self) -> str:
        if self.greedy:
            return "the likeliest token (temperature 0)"
        filters = {"top_k": self.top_k, "top_p": self.top_p, "min_p": self.min_p}
        told = (f"{name} {value}" for name, value in filters.items() if value is not None)
        return ", ".join([f"temperature {self.temperature:g}", *told])


def _nucleus_floor(scaled: Tensor, floor: Tensor, share: float) -> Tensor:
    """[B] the last logit, in falling order, that is needed to reach `share` of the probability above `floor` [B]."""
    vocabulary, count = scaled.shape[1], _CANDIDATES
    largest = scaled.amax(-1, keepdim=True)
    weights = (scaled - largest).exp()
    needed = share * weights.masked_fill_(scaled < floor[:, None], 0.0).sum(-1, keepdim=True)
    while True:
        values = scaled.topk(min(count, vocabulary)).values
        reached = torch.where(values < floor[:, None], 0.0, (values - largest).exp()).cumsum(-1)
        if count >= vocabulary or bool((reached[:, -1:] >= needed).all()):
            break
        count *= 8
    last = (reached < needed).sum(-1, keepdim=True).clamp_max(values.shape[1] - 1)
    return values.gather(1, last)[:, 0]
