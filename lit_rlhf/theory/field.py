"""The expected gradient of an off-line composition, by its own evidence and head, as a function of its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.theory.laboratory import policy_of, weights
from lit_rlhf.types import Batch


class Field:
    """The expected gradient of a composition as a function of its weights.

    Args:
        algorithm: adapted, off-line.
        batch: what the data say in expectation.
    """

    def __init__(self, algorithm: Algorithm, batch: Batch) -> None:
        self.algorithm, self.batch = algorithm, batch
        self.parameters = weights(algorithm)

    def at(self, values: Tensor) -> tuple[float, Tensor]:
        """Loss [] and gradient [m]."""
        self.set(values)
        loss = self.loss()
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, found, strict=True)]
        return float(loss.detach()), torch.cat([part.flatten() for part in parts])

    def loss(self) -> Tensor:
        """[] each term divided by the count of its unit, as `Algorithm.update` does it."""
        (seen,) = self.algorithm._observed([self.batch], remember=False)
        evidence = dataclasses.replace(self.algorithm.evidence(self.batch), observed=seen)
        output = self.algorithm.loss(evidence, self.batch)
        return sum(term.total / self.batch.count(term.unit) for term in output.terms)

    @torch.no_grad()
    def set(self, values: Tensor) -> None:
        """Writes the weights [m]."""
        start = 0
        for parameter in self.parameters:
            parameter.copy_(values[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()

    @torch.no_grad()
    def values(self) -> Tensor:
        """[m] the weights as they are."""
        return torch.cat([parameter.flatten() for parameter in self.parameters]).clone()

    def derivative(self, values: Tensor, width: float = 1e-5) -> Tensor:
        """[m, m] of the gradient, by central differences; symmetric where the head holds nothing constant."""
        columns = []
        for unit in torch.eye(len(values), dtype=values.dtype):
            ahead, behind = (self.at(values + sign * width * unit)[1] for sign in (1, -1))
            columns.append((ahead - behind) / (2 * width))
        return torch.stack(columns, dim=1)

    def steepness(self, values: Tensor, slope: Tensor, width: float = 1e-6) -> Tensor:
        """[m, m] the same by forward differences from the gradient [m] there: half the work."""
        units = torch.eye(len(values), dtype=values.dtype)
        return torch.stack([(self.at(values + width * unit)[1] - slope) / width for unit in units], dim=1)

    def law(self) -> Tensor | None:
        """[n] log pi; None where no policy is trained."""
        model = policy_of(self.algorithm)
        return None if model is None else model.net.law().detach().clone()


def free_directions(field: Field) -> int:
    """Weights that change no policy: one for every normalisation, all of the trunk's that no head reads."""
    model = policy_of(field.algorithm)
    net = model.net
    if net.by == "response":
        return 1
    inside = net.tree.below.any(-1)
    return int((~inside).sum()) + int(inside.any(-1).sum())


def starts(field: Field, number: int, seed: int = 0) -> Sequence[Tensor]:
    """[m] the weights as they are, and random ones around them."""
    here, generator = field.values(), torch.Generator().manual_seed(seed)
    return [here, *(here + torch.randn(here.shape, generator=generator, dtype=here.dtype) for _ in range(number - 1))]
