"""Metrics in the making: detached sums that stay on the device until somebody asks for their means."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lit_rlhf.ranks import sum_over_ranks
from lit_rlhf.losses.base import Metric, Term


SQUARE = "_square"
"""Ends the name of a mean square; the mean itself has the name without it."""


class Recorder:
    """Weighted means over steps, micro-batches and ranks, exact whatever their sizes.

    `add` costs no synchronisation with the device; `flush` makes one reduction over ranks for all metrics together.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor | float, weight: Tensor | float = 1.0) -> None:
        """Adds `total` [] to the numerator of `name` and `weight` [] to its denominator."""
        for sums, value in ((self._totals, total), (self._weights, weight)):
            value = torch.as_tensor(value).detach()
            value = value.to(torch.float32 if value.device.type == "mps" else torch.float64)  # MPS has no float64
            sums[name] = value if name not in sums else sums[name].to(value.device) + value

    def add_metrics(self, *metrics: Iterable[Metric]) -> None:
        """The metrics of a head, and others like them."""
        for metric in itertools.chain(*metrics):
            self.add(metric.name, metric.total, metric.weight)

    def flush(self, device: torch.device | str = "cpu") -> dict[str, float]:
        """Name -> mean over everything added since the last flush, on all ranks. Metrics without weight are left out.

        A mean square `<name>_square` is given as the standard deviation `<name>_std`.

        Every rank must have added the same names (heads emit the same metrics for every batch).
        """
        names = sorted(self._totals)
        if not names:
            return {}
        sums = torch.stack([self._stack(self._totals, names, device), self._stack(self._weights, names, device)])
        totals, weights = sum_over_ranks(sums).tolist()
        self._totals, self._weights = {}, {}
        return with_deviations({name: total / weight for name, total, weight in zip(names, totals, weights, strict=True) if weight})

    def copy(self) -> Recorder:
        """The same sums, which further `add`s to this recorder leave alone."""
        twin = Recorder()
        twin._totals, twin._weights = dict(self._totals), dict(self._weights)
        return twin

    def state_dict(self) -> dict[str, list[float]]:
        """Name -> this rank's numerator and denominator since the last flush, exactly."""
        return {name: [self._totals[name].item(), self._weights[name].item()] for name in self._totals}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """The inverse of `state_dict`."""
        self._totals = {name: torch.tensor(total, dtype=torch.float64) for name, (total, _) in state.items()}
        self._weights = {name: torch.tensor(weight, dtype=torch.float64) for name, (_, weight) in state.items()}

    @staticmethod
    def _stack(sums: dict[str, Tensor], names: list[str], device: torch.device | str) -> Tensor:
        return torch.stack([sums[name].to(device) for name in names])


def with_deviations(means: Mapping[str, float]) -> dict[str, float]:
    """The means, with sqrt(E x^2 - (E x)^2) under `<name>_std` in the place of each `<name>_square`."""
    return {
        logged_as(name): value if logged_as(name) == name else math.sqrt(max(0.0, value - means[name.removesuffix(SQUARE)] ** 2))
        for name, value in means.items()
    }


def logged_as(name: str) -> str:
    """The name under which the mean of a metric is logged."""
    return name.removesuffix(SQUARE) + "_std" if name.endswith(SQUARE) else name


def named(terms: Iterable[Term]) -> list[tuple[str, Term]]:
    """Terms with names made unique: the second "pra" of a sum is "pra_2"."""
    seen: dict[str, int] = {}
    result = []
    for term in terms:
        seen[term.name] = seen.get(term.name, 0) + 1
        result.append((term.name if seen[term.name] == 1 else f"{term.name}_{seen[term.name]}", term))
    return result
