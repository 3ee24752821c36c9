"""Rewards made of rewards: sums, normalisation, clipping."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional.advantages import group_relative
from lit_rlhf.functional.value import precise
from lit_rlhf.ranks import sum_over_ranks
from lit_rlhf.rewards.base import Part, Response, Reward, Scores
from lit_rlhf.rewards.wrapping import Made, Wrapped


@dataclass(frozen=True)
class WeightedSum(Made):
    """r = sum_i w_i r_i. Every r_i is a part by its reward's name, unweighted; its own parts are called `name/part`.

    Where one of them with a weight other than 0 has no reward (NaN), the sum has none. One of weight 0 is only logged.

    Args:
        rewards: the r_i.
        weights: 1 each when None.
        name: of its metrics.

    Raises:
        InputError: no rewards, another number of weights, or two of the same name.
    """

    rewards: list[Reward]
    weights: list[float] | None = None
    name: str = "sum"

    def __post_init__(self) -> None:
        names, weights = [reward.name for reward in self.rewards], self.weights
        if not names or (weights is not None and len(weights) != len(names)):
            raise InputError(
                f"WeightedSum: {len(names)} rewards and {len(weights or ())} weights, as many are needed, at least one"
            )
        if weights is not None and not all(map(math.isfinite, weights)):
            raise InputError(f"WeightedSum.weights is {weights}, expected numbers")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(
                f"WeightedSum: two rewards are called {twice!r}, by which their metrics go; give one another name"
            )

    @property
    def inner(self) -> Sequence[Reward]:
        return self.rewards

    def right(self, scores: Scores) -> Tensor:
        """What the first verifiable one says."""
        reward = next(reward for reward in self.rewards if reward.verifiable)
        own = {part.name: part for part in scores.parts}
        inner = tuple(
            dataclasses.replace(part, name=name.removeprefix(f"{reward.name}/"))
            for name, part in own.items() if name.startswith(f"{reward.name}/")
        )
        return reward.right(Scores(own[reward.name].values, inner))

    def __call__(self, responses: Sequence[Response]) -> Scores:
        total, parts = torch.zeros(len(responses)), []
        for reward, weight in zip(self.rewards, self.weights or [1.0] * len(self.rewards), strict=True):
            found = reward(responses)
            total = total + weight * found.total if weight else total
            parts.append(Part(reward.name, found.total))
            parts += [Part(f"{reward.name}/{part.name}", part.values) for part in found.parts]
        return Scores(total, tuple(parts))


@dataclass(frozen=True)
class Clipped(Wrapped):
    """r = min(max(r, low), high).

    Args:
        reward: what is clipped.
        low: the least value.
        high: the greatest value.

    Raises:
        InputError: `low` is not below `high`.
    """

    reward: Reward
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"Clipped: low={self.low} is not below high={self.high}")

    def __call__(self, responses: Sequence[Response]) -> Scores:
        found = self.reward(responses)
        return self.instead(found, found.total.clamp(self.low, self.high))


@dataclass(frozen=True)
class GroupNormalised(Wrapped):
    """r = (r - mean) / (std + epsilon) over the responses to the same prompt that have a reward, std with their number.

    A `WeightedSum` of these, in a `BatchNormalised`, is GDPO, which normalises every reward before it adds them:
    "GDPO: Group reward-Decoupled Normalization Policy Optimization" by Liu et al. (https://arxiv.org/abs/2601.05242).

    Args:
        reward: what is normalised.
        std: whether to divide.
        epsilon: what is added to the standard deviation.
    """

    reward: Reward
    std: bool = True
    epsilon: float = 1e-6

    def __call__(self, responses: Sequence[Response]) -> Scores:
        found = self.reward(responses)
        known = ~found.total.isnan()
        _, group = torch.unique(torch.tensor([response.group for response in responses]), return_inverse=True)
        total = found.total.clone()
        total[known] = group_relative(total[known], group[known], len(responses), self.epsilon if self.std else None)
        return self.instead(found, total)


class BatchNormalised(Wrapped):
    """r = (r - mean) / (std + epsilon) over the responses on all ranks that have a reward, std with their number.

    All ranks call it together, also those without a response.

    Args:
        reward: what is normalised.
        std: whether to divide.
        epsilon: what is added to the standard deviation.
    """

    crosses_ranks = True

    def __init__(self, reward: Reward, std: bool = True, epsilon: float = 1e-6) -> None:
        self.reward, self.std, self.epsilon = reward, std, epsilon
        self._device: torch.device | str = "cpu"

    def to(self, device: torch.device | str) -> None:
        super().to(device)
        self._device = device

    def __call__(self, responses: Sequence[Response]) -> Scores:
        found = self.reward(responses)
        known = ~found.total.isnan()
        total = precise(found.total)
        centred = total - self._mean(total[known])
        scale = self._mean(centred[known].square()).sqrt() + self.epsilon if self.std else 1.0
        return self.instead(found, (centred / scale).float())

    def _mean(self, values: Tensor) -> Tensor:
        """[] over all ranks; 0 of none. The sums cross ranks on the device that collectives work on."""
        sums = torch.stack([values.sum(), torch.tensor(len(values), dtype=values.dtype)])
        total, number = sum_over_ranks(sums.to(self._device)).cpu()
        return total / number.clamp_min(1.0)
