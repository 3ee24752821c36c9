"""How fast: the derivative of the expected gradient where training ends, and gradient descent measured against it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.theory.field import Field, free_directions
from lit_rlhf.theory.laboratory import policy_of

STEPS, SHRUNK = 40, 1e-3
"""Most steps of the measured descent, and the factor after which rounding might show."""
NEAR = 1e-3
"""Nats from the end at which it starts."""


@dataclass(frozen=True)
class Pace:
    """Of gradient descent at the step 1/lambda_max."""

    largest: float
    """lambda_max"""
    least: float
    """lambda_2, the smallest that is not 0."""
    predicted: float
    """1 - lambda_2/lambda_max"""
    measured: float
    """The factor by which a step shrinks a displacement along lambda_2's direction."""

    @property
    def condition(self) -> float:
        """lambda_max/lambda_2"""
        return self.largest / self.least


def pace(field: Field, end: Tensor) -> Pace | None:
    """The rate at an end [m]; None where the derivative has no positive eigenvalue.

    A head that holds a statistic constant has a derivative that is not symmetric; its symmetric part is taken.
    """
    derivative = field.derivative(end)
    values, vectors = torch.linalg.eigh((derivative + derivative.T) / 2)
    kept = values > 1e-7 * values[-1].clamp_min(1e-300)
    if policy_of(field.algorithm) is not None and int((~kept).sum()) < free_directions(field):
        kept[: free_directions(field)] = False
    if not bool(kept.any()) or values[-1] <= 0:
        return None
    least, largest = float(values[kept][0]), float(values[-1])
    return Pace(largest, least, 1 - least / largest, _measured(field, end, vectors[:, kept][:, 0], 1 / largest))


def _measured(field: Field, end: Tensor, direction: Tensor, step: float) -> float:
    """The mean factor of a step, by the displacement along the direction."""
    now, share, made = end + NEAR * direction, 1.0, 0
    while made < STEPS and abs(share) > SHRUNK:
        now, made = now - step * field.at(now)[1], made + 1
        share = float((now - end) @ direction) / NEAR
    return abs(share) ** (1 / made)
